"""Starting workers: their environment, their readiness, and a death at start."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from net_parts import SUBNET, LocalGuardian, deployment_of, local_guardian

from harness.clock import RunClock
from harness.deploy.folder import RunFolder
from harness.deploy.model import Deployment, Node
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


def _deployment(folder: Path, script: str) -> Deployment:
    deployment = deployment_of("standalone")
    deployment.target = ScriptTarget(folder / "worker.py", script)
    deployment.nodes.append(Node("redis-0", "redis", f"{SUBNET}.10", 6379, folder))
    deployment.provider_url = f"http://{SUBNET}.3:9000/v1"
    return deployment


async def _start(guardian: LocalGuardian, deployment: Deployment, folder: Path, count: int) -> None:
    run, clock = RunFolder.create(folder / "run"), RunClock(12.5)
    await start_workers(guardian, deployment, run, clock, count)  # type: ignore[arg-type]  # same interface


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
    with local_guardian(tmp_path) as guardian:
        deployment = _deployment(tmp_path, WORKER)
        await _start(guardian, deployment, tmp_path, 2)
        seen = [await _environment(worker.url) for worker in deployment.workers]
    assert [worker.url for worker in deployment.workers] == [
        f"http://{SUBNET}.50:8080",
        f"http://{SUBNET}.51:8080",
    ]
    assert [s["INSTANCE_ID"] for s in seen] == ["worker-0", "worker-1"]
    for name in ("WEBUI_SECRET_KEY", "DATABASE_URL", "OPENAI_API_BASE_URL"):
        assert len({s[name] for s in seen}) == 1
    assert seen[0]["REDIS_URL"] == f"redis://{SUBNET}.10:6379/0"
    assert "HTTP_PROXY" not in seen[0]
    assert (seen[1]["HARNESS_WORKER"], seen[1]["HARNESS_BASE"]) == ("1", "12.5")
    assert seen[1]["HARNESS_LINKS"] == "{}"


async def test_a_worker_that_dies_at_start_shows_its_last_words(tmp_path: Path) -> None:
    """The message has the exit status, the last 32 lines of the log and its path."""
    script = "import sys\nfor n in range(40): print('line', n)\nsys.exit(7)\n"
    with local_guardian(tmp_path) as guardian, pytest.raises(UserError) as caught:
        await _start(guardian, _deployment(tmp_path, script), tmp_path, 1)
    message = str(caught.value)
    assert "worker-0 ended at start with exit status 7" in message
    assert "last 32 lines" in message
    assert str(tmp_path / "worker-0.log") in message
    assert "line 39" in message
    assert "line 7\n" not in message
