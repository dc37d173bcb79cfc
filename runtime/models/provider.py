"""The client of an OpenAI-compatible model provider: one HTTP session per worker."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

CONNECT_WITHIN_S = 5.0
SILENT_FOR_S = 120.0  # a provider that sends nothing for this long is given up
ERROR_TEXT = 500
OK = 200


class ProviderError(Exception):
    """The provider refused, broke off, or sent what cannot be read."""


@dataclass(frozen=True)
class Route:
    """Who answers a model: URL before `/chat/completions`, API key, the model's name there."""

    url: str
    key: str
    model: str


Find = Callable[[str], Awaitable[Route]]


class Provider:
    """Streams completions. `find` says where a model is answered, or raises ProviderError."""

    def __init__(self, find: Find) -> None:
        self._find = find
        self._http: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the HTTP session; it connects when it is used."""
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_WITHIN_S, sock_read=SILENT_FOR_S
        )
        self._http = aiohttp.ClientSession(
            timeout=timeout, connector=aiohttp.TCPConnector(limit=0), read_bufsize=1 << 18
        )

    async def close(self) -> None:
        """Close every connection, streams included."""
        if self._http is not None:
            await self._http.close()

    async def stream(self, body: dict[str, Any]) -> AsyncGenerator[str, None]:
        """Yield text as it comes, merged per read; raise ProviderError.

        Closing the iterator, or cancelling the task that reads it, closes the connection at once.
        """
        route = await self._find(str(body["model"]))
        url = f"{route.url}/chat/completions"
        data = orjson.dumps({**body, "model": route.model})
        headers = {"Authorization": f"Bearer {route.key}", "Content-Type": "application/json"}
        try:
            answer = await self._client.post(url, data=data, headers=headers)
            try:
                if answer.status != OK:
                    text = (await answer.content.read(ERROR_TEXT)).decode(errors="replace")
                    raise ProviderError(f"the provider answered {answer.status}: {text}")
                async for text in _texts(answer.content):
                    yield text
            finally:
                answer.close()  # not `release`: that would wait for the rest of the stream
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ProviderError(f"{type(error).__name__}: {error}") from error

    @property
    def _client(self) -> aiohttp.ClientSession:
        if self._http is None:
            raise ProviderError("the provider's client is not open")
        return self._http


async def _texts(content: aiohttp.StreamReader) -> AsyncGenerator[str, None]:
    """Yield the text of all server-sent events that one read brought."""
    parser = EventParser()
    while not parser.done and (data := await content.readany()):
        if text := parser.feed(data):
            yield text
    if not parser.done:
        raise ProviderError("the provider's stream ended before its [DONE]")


class EventParser:
    """Cuts server-sent events out of bytes in whatever pieces they come."""

    def __init__(self) -> None:
        self._rest = b""
        self.done = False

    def feed(self, data: bytes) -> str:
        """Return the text of every event that is now complete."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        return "".join(self._text(line.strip()) for line in lines)

    def _text(self, line: bytes) -> str:
        if self.done or not line.startswith(b"data:"):
            return ""
        payload = line[5:].strip()
        if payload == b"[DONE]":
            self.done = True
            return ""
        return delta_of(payload)


def delta_of(payload: bytes) -> str:
    """Return the text of one `chat.completion.chunk`; raise ProviderError for anything else."""
    try:
        body = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise ProviderError(f"not JSON: {payload[:80]!r}") from error
    if isinstance(body, dict) and body.get("error"):
        raise ProviderError(str(body["error"])[:ERROR_TEXT])
    try:
        choices = body["choices"]
        text = (choices[0]["delta"].get("content") or "") if choices else ""
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ProviderError(f"not a chunk: {payload[:80]!r}") from error
    if not isinstance(text, str):
        raise ProviderError(f"its content is no text: {payload[:80]!r}")
    return text
