"""The fake provider as a process: streams, its ground truth, and closed clients."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from net_parts import guarded

from harness.clock import RunClock
from harness.deploy.folder import RunFolder
from harness.deploy.model import Process
from harness.deploy.provider import start_provider
from harness.waiting import wait_for

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Provider:
    """A running provider and its history."""

    def __init__(self, url: str, run: RunFolder, clock: RunClock, process: Process) -> None:
        self.process = process
        self.url = url
        self.run = run
        self.clock = clock

    def records(self, stream: str) -> list[dict[str, Any]]:
        """Return the records of one stream."""
        lines = (self.run.history / "provider.jsonl").read_text().splitlines()
        return [r for r in map(json.loads, lines) if r.get("stream") == stream]

    async def closed(self, stream: str) -> dict[str, Any]:
        """Wait for the record of a stream's close."""
        events = lambda: [r for r in self.records(stream) if r["event"] == "close"]  # noqa: E731
        return (await wait_for(events, 5, f"{stream} closes"))[0]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def provider(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Provider]:
    """Give a provider started as a run starts it."""
    async with guarded(tmp_path_factory.mktemp("provider")) as (guardian, deployment):
        clock = RunClock()
        await start_provider(guardian, deployment, guardian.run, clock)
        process = guardian.processes["provider"]
        yield Provider(deployment.provider_url, guardian.run, clock, process)


@pytest_asyncio.fixture(loop_scope="module")
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Give an HTTP client."""
    async with aiohttp.ClientSession() as client:
        yield client


def _ask(provider: Provider, marker: str, *, stream: bool = True) -> dict[str, Any]:
    messages = [
        {"role": "user", "content": "[[stream=old tokens=3 rate=1]]"},
        {"role": "assistant", "content": "old:0 "},
        {"role": "user", "content": f"hello {marker}"},
    ]
    body = {"model": "fake", "messages": messages, "stream": stream}
    return {"url": f"{provider.url}/chat/completions", "json": body}


def _deltas(text: str) -> list[dict[str, Any]]:
    events = [e.removeprefix("data: ") for e in text.split("\n\n") if e]
    assert events.pop() == "[DONE]"
    return [json.loads(event)["choices"][0] for event in events]


async def test_a_stream_is_numbered_tokens_and_ends_with_done(
    provider: Provider, session: aiohttp.ClientSession
) -> None:
    """The last user message's marker names the stream; its open and finish are on record."""
    async with session.post(**_ask(provider, "[[stream=s1 tokens=5 rate=200]]")) as response:
        assert response.content_type == "text/event-stream"
        choices = _deltas(await response.text())
    assert "".join(c["delta"].get("content", "") for c in choices) == "s1:0 s1:1 s1:2 s1:3 s1:4 "
    assert choices[-1]["finish_reason"] == "stop"
    close = await provider.closed("s1")
    assert (close["cause"], close["sent"]) == ("finished", 5)
    assert [r["event"] for r in provider.records("s1")] == ["open", "close"]


async def test_tokens_keep_an_absolute_timetable(
    provider: Provider, session: aiohttp.ClientSession
) -> None:
    """Token n is not sent before n/rate seconds: 11 tokens at 50/s take 0.2 s or more."""
    async with session.post(**_ask(provider, "[[stream=s2 tokens=11 rate=50]]")) as response:
        await response.read()
    opened, closed = provider.records("s2")[0], await provider.closed("s2")
    assert closed["t"] - opened["t"] >= 0.199


async def test_an_abrupt_close_between_tokens_is_noticed_at_once(
    provider: Provider, session: aiohttp.ClientSession
) -> None:
    """A stream whose next token is 10 s away is closed on record when its client goes."""
    order = _ask(provider, "[[stream=s3 tokens=5 rate=0.1]]")
    response = await session.post(**order)
    while b"s3:0" not in await response.content.readline():
        pass
    gone = provider.clock.now()
    response.close()
    close = await provider.closed("s3")
    assert (close["cause"], close["sent"]) == ("client_closed", 1)
    assert 0 <= close["t"] - gone < 5  # long before token 1


async def test_a_connection_is_reused_after_a_stream(
    provider: Provider, session: aiohttp.ClientSession
) -> None:
    """The hand-written chunks leave the connection in order: the next request works on it."""
    for name in ("s4", "s5"):
        marker = f"[[stream={name} tokens=3 rate=300]]"
        async with session.post(**_ask(provider, marker)) as response:
            assert f"{name}:2 " in await response.text()
    async with session.get(f"{provider.url}/models") as response:
        assert (await response.json())["data"][0]["id"] == "fake"


async def test_requests_without_a_stream_get_a_short_reply(
    provider: Provider, session: aiohttp.ClientSession
) -> None:
    """What a target asks on its own account (a title) is answered and not recorded."""
    order = _ask(provider, "[[stream=s6 tokens=3 rate=10]]", stream=False)
    async with session.post(**order) as response:
        assert (await response.json())["choices"][0]["message"]["content"] == "ok"
    assert provider.records("s6") == []


async def test_a_body_that_is_no_chat_request_is_a_400(
    provider: Provider, session: aiohttp.ClientSession
) -> None:
    """A body that is not JSON is the client's mistake."""
    async with session.post(f"{provider.url}/chat/completions", data=b"{") as response:
        assert response.status == 400


async def test_the_providers_own_end_is_no_close_of_a_stream(
    provider: Provider, session: aiohttp.ClientSession
) -> None:
    """SIGTERM ends the process without waiting for streams, and blames no client for it."""
    response = await session.post(**_ask(provider, "[[stream=s7 tokens=50 rate=1]]"))
    await wait_for(lambda: provider.records("s7"), 5, "s7 opens")
    provider.process.signal(signal.SIGTERM)
    await provider.process.wait(5)
    assert [r["event"] for r in provider.records("s7")] == ["open"]
    response.close()
