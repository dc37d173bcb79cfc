"""One worker without Redis, its shutdown, and the command line."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

from harness.waiting import wait_for
from tests.integration.app_deployment import SECRET, deployment
from tests.integration.resuming_client import ResumingClient


async def test_one_worker_needs_no_redis() -> None:
    """Chats, sockets, sessions, stops and sign-out work on a single worker without Redis."""
    async with deployment(with_redis=False, workers=1) as parts:
        user = await parts.user()
        await user.connect(0)
        await user.call("POST", "/api/v1/session/data", 0, {"a": 1})
        assert (await user.call("GET", "/api/v1/session/data"))[1] == {"data": {"a": 1}}
        chat, task = await user.chat("alone", 0)
        assert (await user.call("GET", f"/api/tasks/chat/{chat}"))[1] == {"task_ids": [task]}
        answer = (await user.call("POST", f"/api/tasks/stop/{task}"))[1]
        assert answer["state"] == "cancelled"
        await wait_for(lambda: "alone" in parts.provider.closed, 2, "stream closed")
        await user.call("POST", "/api/v1/auths/signout")
        assert (await user.call("GET", "/api/v1/auths/"))[0] == 401
        await user.leave()


async def test_workers_without_redis_stop_each_others_tasks() -> None:
    """Two workers that share nothing but the database: a stop reaches the other's task."""
    async with deployment(with_redis=False) as parts:
        user = await parts.user()
        chat, task = await user.chat("unshared", 0)
        answer = (await user.call("POST", f"/api/tasks/stop/{task}", 1))[1]
        assert answer["state"] == "requested"
        await wait_for(lambda: "unshared" in parts.provider.closed, 3, "stream closed")
        client = ResumingClient(user)
        await wait_for(lambda: _ended(client, chat), 3, "stored")


async def _ended(
    client: ResumingClient, chat: str, worker: int = 1, state: str = "cancelled"
) -> bool:
    return bool((await client.fetch(chat, worker))["state"] == state)


async def test_an_answer_that_was_refused_in_no_known_encoding_ends() -> None:
    """A gateway's error page is not what its header says: the message runs no more, users know."""
    async with deployment(with_redis=False, workers=1) as parts:
        parts.provider.garbled.add("odd")
        user = await parts.user()
        await user.connect(0)
        chat, _ = await user.chat("odd", 0)
        client = ResumingClient(user)
        await wait_for(lambda: _ended(client, chat, 0, "error"), 5, "its end")
        await wait_for(lambda: user.kinds()[-1:] == ["chat:active"], 5, "the user knows")
        assert "chat:message:error" in user.kinds()
        await user.leave()


async def test_sigterm_ends_cleanly_and_other_workers_go_on() -> None:
    """A worker told to end takes its records along, ends its streams, and exits with 0."""
    async with deployment() as parts:
        user = await parts.user(1)
        chat, _ = await user.chat("drained", 0)
        await user.connect(0)
        assert await parts.workers[0].stop() == 0
        assert "drained" in parts.provider.closed
        listed = await user.call("GET", f"/api/tasks/chat/{chat}", 1)
        assert listed == (200, {"task_ids": []})
        log = parts.workers[0].log.read_text()
        assert "Traceback" not in log, log
        await user.leave()


async def test_shared_port_has_a_worker_per_process() -> None:
    """`--workers 2` serves one port with two instances, and ends with them."""
    async with deployment(workers=1) as parts:
        worker = parts.workers[0]
        await worker.stop()
        worker._argv += ["--workers", "2"]
        await worker.start()
        await parts.ready()
        seen: set[str] = set()

        async def both() -> bool:
            answer = await asyncio.to_thread(_instance, f"{parts.urls[0]}/ready")
            seen.add(answer)
            return len(seen) == 2

        await wait_for(both, 10, "two instances")
        assert await worker.stop() == 0


def _instance(url: str) -> str:
    """Return the instance that answers a connection of its own."""
    code = f"import json,urllib.request as r;print(json.load(r.urlopen({url!r}))['instance'])"
    return subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False
    ).stdout


def check(**environ: str) -> subprocess.CompletedProcess[str]:
    """Run `runtime check --offline`."""
    return subprocess.run(
        [sys.executable, "-m", "runtime", "check", "--offline"],
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_check_masks_secrets_and_names_what_is_wrong() -> None:
    """The configuration is printed without its secrets; a mistake is named, with exit 3."""
    good = check(WEBUI_SECRET_KEY=SECRET, REDIS_URL="redis://u:hidden@127.0.0.1:6379/0")
    assert (good.returncode, "hidden" in good.stdout, SECRET in good.stdout) == (0, False, False)
    bad = check(WEBUI_SECRET_KEY=SECRET, REDIS_SOCKET_TIMEOUT="5000")
    assert bad.returncode == 3
    assert "REDIS_SOCKET_TIMEOUT" in bad.stderr
    assert "Traceback" not in bad.stderr
