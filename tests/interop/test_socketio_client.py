"""npm's socket.io-client against real workers: nothing of ours is on its side of the wire."""

from __future__ import annotations

import signal
import uuid
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from harness.clock import RunClock
from harness.deploy.workers import start_worker
from harness.waiting import wait_for
from tests.interop.node_client import NodeClient, installed, node_client
from tests.live import Live, live

pytestmark = pytest.mark.slow
TOKENS = 120


@pytest.fixture(autouse=True)
def _client_is_installed() -> None:
    """Skip before anything is started."""
    installed()


class Account:
    """A signed-in user that posts to one worker or another."""

    def __init__(self, http: aiohttp.ClientSession, parts: Live) -> None:
        self._http = http
        self._urls = [worker.url for worker in parts.deployment.workers]
        self.token = self.id = ""

    async def post(self, worker: int, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return the answer of a worker; fail unless it is 200."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        url = self._urls[worker] + path
        async with self._http.post(url, json=body, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            found: dict[str, Any] = await answer.json()
            return found

    async def sign_up(self) -> None:
        """Make the account."""
        body = {"name": "Ann", "email": "ann@interop.example", "password": "correct horse"}
        answer = await self.post(0, "/api/v1/auths/signup", body)
        self.token, self.id = answer["token"], answer["id"]

    async def chat(self, worker: int, stream: str, tokens: int, rate: int) -> None:
        """Start an answer of numbered tokens."""
        content = f"[[stream={stream} tokens={tokens} rate={rate}]]"
        message = {"role": "user", "content": content}
        body = {"model": "fake", "stream": True, "messages": [message], "id": str(uuid.uuid4())}
        await self.post(worker, "/api/chat/completions", body)


def numbered(stream: str, tokens: int) -> str:
    """Return the text of a whole answer."""
    return "".join(f"{stream}:{n} " for n in range(tokens))


async def heard(client: NodeClient, stream: str, tokens: int) -> None:
    """Wait for the answer's end; its text is whole, in order, and nothing else."""
    before = len(client.events("chat:completion"))
    label = f"end of {stream}"
    await wait_for(lambda: len(client.events("chat:completion")) > before, 25, label)
    assert client.text() == numbered(stream, tokens)


async def test_tokens_of_another_worker_over_a_failover(tmp_path: Path) -> None:
    """It connects by WebSocket, its join is acknowledged, and a failover costs no token."""
    async with live("sentinel", tmp_path, workers=2) as parts, aiohttp.ClientSession() as http:
        account = Account(http, parts)
        await account.sign_up()
        async with node_client(parts.deployment.workers[0].url, account.token) as client:
            await wait_for(lambda: client.times("joined"), 10, "join is acknowledged")
            assert client.last("joined")["user"] == {"id": account.id, "name": "Ann"}
            assert client.last("connected")["transport"] == "websocket"
            await account.chat(1, "s", TOKENS, 20)
            await wait_for(lambda: "s:20 " in client.text(), 10, "20 tokens heard")
            await parts.kill(parts.deployment.nodes[0])
            await heard(client, "s", TOKENS)
            assert client.times("disconnected") == client.times("refused") == 0


async def test_it_comes_back_by_itself(tmp_path: Path) -> None:
    """Its worker is killed: it reconnects, joins again, and hears the other worker again."""
    async with live("standalone", tmp_path, workers=2) as parts, aiohttp.ClientSession() as http:
        account = Account(http, parts)
        await account.sign_up()
        worker = parts.deployment.workers[0]
        async with node_client(worker.url, account.token) as client:
            await wait_for(lambda: client.times("joined"), 10, "first join")
            assert worker.process is not None
            worker.process.signal(signal.SIGKILL)
            await worker.process.wait(5)
            await wait_for(lambda: client.times("disconnected"), 10, "the loss is noticed")
            await start_worker(parts.guardian, parts.deployment, parts.run, RunClock(), worker)
            await wait_for(lambda: client.times("joined") == 2, 15, "second join")
            await account.chat(1, "again", 20, 20)
            await heard(client, "again", 20)
