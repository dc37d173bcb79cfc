"""Starting workers: their environment, their readiness, and a death at start."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from net_parts import guarded

from harness.clock import RunClock
from harness.deploy.model import Deployment, Node
from harness.deploy.spawner import Guardian
from harness.deploy.workers import start_workers
from harness.errors import UserError
from harness.targets.runtime import RuntimeTarget

WORKER = '''
"""A stand-in that takes the command line of `runtime serve` and answers with its environment."""
import http.server, json, os, sys
host, port = sys.argv[sys.argv.index("--host") + 1], int(sys.argv[sys.argv.index("--port") + 1])

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"path": self.path, **os.environ}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.ThreadingHTTPServer((host, port), Handler).serve_forever()
'''


class ScriptTarget(RuntimeTarget):
    """The runtime's environment around a script."""

    def __init__(self, script: Path, text: str) -> None:
        script.write_text(text)
        super().__init__(["python", str(script)])


async def _start(guardian: Guardian, deployment: Deployment, script: str, count: int) -> None:
    folder = guardian.run.data
    deployment.target = ScriptTarget(folder / "worker.py", script)
    deployment.nodes.append(Node("redis-0", "redis", f"{deployment.subnet}.10", 6379, folder))
    deployment.provider_url = f"http://{deployment.subnet}.3:9000/v1"
    await start_workers(guardian, deployment, guardian.run, RunClock(12.5), count)


async def _environment(url: str) -> dict[str, str]:
    import aiohttp

    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return json.loads(await response.read())


async def test_workers_start_together_with_an_environment_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers share database and secret, differ in INSTANCE_ID, and inherit no user settings."""
    monkeypatch.setenv("REDIS_URL", "redis://somewhere.else:6379")
    monkeypatch.setenv("HTTP_PROXY", "http://somewhere.else")
    async with guarded(tmp_path) as (guardian, deployment):
        await _start(guardian, deployment, WORKER, 2)
        seen = [await _environment(worker.url) for worker in deployment.workers]
    assert [worker.url for worker in deployment.workers] == [
        f"http://{deployment.subnet}.50:8080",
        f"http://{deployment.subnet}.51:8080",
    ]
    assert [s["INSTANCE_ID"] for s in seen] == ["worker-0", "worker-1"]
    for name in ("WEBUI_SECRET_KEY", "DATABASE_URL", "OPENAI_API_BASE_URL"):
        assert len({s[name] for s in seen}) == 1
    assert seen[0]["REDIS_URL"] == f"redis://{deployment.subnet}.10:6379/0"
    assert "HTTP_PROXY" not in seen[0]
    assert (seen[1]["HARNESS_WORKER"], seen[1]["HARNESS_BASE"]) == ("1", "12.5")
    assert seen[1]["HARNESS_LINKS"] == "{}"


async def test_a_worker_that_dies_at_start_shows_its_last_words(tmp_path: Path) -> None:
    """The message has the exit status, the last 32 lines of the log and its path."""
    script = "import sys\nfor n in range(40): print('line', n)\nsys.exit(7)\n"
    async with guarded(tmp_path) as (guardian, deployment):
        with pytest.raises(UserError) as caught:
            await _start(guardian, deployment, script, 1)
        log = guardian.run.logs / "worker-0.log"
    message = str(caught.value)
    assert "worker-0 ended at start with exit status 7" in message
    assert "last 32 lines" in message
    assert str(log.resolve()) in message
    assert "line 39" in message
    assert "line 7\n" not in message
