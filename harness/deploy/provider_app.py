"""The fake model provider: an OpenAI-compatible server that streams numbered tokens.

The last user message asks for a stream with a marker, `[[stream=NAME tokens=60 rate=10]]`. Token
n is the text `NAME:n `, sent n/rate seconds after the stream was opened. When each stream opens
and closes, and why, goes to the history: that is the ground truth about stopped tasks.

Beside the one model that answers it lists 20 of one version, `list-VERSION-0` to `-19`; `POST
/harness/models {"version": 3}` moves on to a newer version, so a list tells how old and how whole
it is.

Run it as `python -m harness.deploy.provider_app --host H --port P --history FOLDER --base B`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import uvloop
from aiohttp import web

from harness.clock import RunClock
from harness.history.writer import HistoryWriter
from harness.vocabulary import MODELS_LISTED

MODEL = "fake"
MARKER = re.compile(r"\[\[stream=(\S+) tokens=(\d+) rate=(\d+(?:\.\d+)?)\]\]")
FLUSH_PERIOD_S = 0.05
SHUTDOWN_S = 0.2  # a run that ends does not wait for streams
WRITER: web.AppKey[HistoryWriter] = web.AppKey("writer", HistoryWriter)
VERSION: web.AppKey[list[int]] = web.AppKey("version", list)  # the newest one, alone in a list
ENDING: web.AppKey[asyncio.Event] = web.AppKey("ending", asyncio.Event)


@dataclass(frozen=True)
class Order:
    """A stream that a message asked for. `rate` in tokens/s."""

    stream: str
    tokens: int
    rate: float


def order_in(body: Any) -> Order | None:
    """Return what the last user message asks for, or None without a (valid) marker."""
    messages = body.get("messages") or []
    texts = [_text(m.get("content")) for m in messages if m.get("role") == "user"]
    found = MARKER.search(texts[-1]) if texts else None
    if found is None or float(found[3]) <= 0:
        return None
    return Order(found[1], int(found[2]), float(found[3]))


def _text(content: Any) -> str:
    if isinstance(content, list):  # the parts form: [{"type": "text", "text": …}]
        return " ".join(str(part.get("text", "")) for part in content)
    return str(content or "")


def chunk(name: str, delta: dict[str, str], finish: str | None = None) -> bytes:
    """Return one server-sent event that holds a chat.completion.chunk."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {
        "id": f"chatcmpl-{name}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": MODEL,
        "choices": [choice],
    }
    return b"data: " + orjson.dumps(body) + b"\n\n"


class TokenStream:
    """Sends an order's tokens on an absolute timetable, by timer callbacks: cheap by the hundred.

    Callbacks write HTTP chunks straight to the transport: no task wakes up for a token.
    """

    def __init__(self, order: Order, transport: asyncio.WriteTransport) -> None:
        self.order = order
        self.sent = 0
        self._timer: asyncio.TimerHandle | None = None
        self._transport = transport
        head, _, tail = chunk(order.stream, {"content": "\0"}).partition(b"\\u0000")
        self._head = head + order.stream.encode() + b":"
        self._tail = b" " + tail

    async def send_all(self) -> None:
        """Send token 0 now and the others when they are due; a cancelled call sends no more."""
        self._loop = asyncio.get_running_loop()
        self._done = self._loop.create_future()
        self._started = self._loop.time()
        self._send()
        try:
            await self._done
        finally:
            if self._timer:
                self._timer.cancel()

    def _send(self) -> None:
        if self._transport.is_closing():
            return  # connection_lost cancels the handler
        due = (self._loop.time() - self._started) * self.order.rate
        lines = []
        while self.sent < self.order.tokens and self.sent <= due:  # more than one after a stall
            line = b"%s%d%s" % (self._head, self.sent, self._tail)
            lines.append(b"%x\r\n%s\r\n" % (len(line), line))
            self.sent += 1
        if lines:
            self._transport.write(b"".join(lines))
        if self.sent >= self.order.tokens:
            self._done.set_result(None)
            return
        self._timer = self._loop.call_at(self._started + self.sent / self.order.rate, self._send)


async def models(request: web.Request) -> web.Response:
    """Answer GET /v1/models."""
    version = request.app[VERSION][0]
    names = [MODEL, *(f"list-{version}-{number}" for number in range(MODELS_LISTED))]
    fields = {"object": "model", "created": 0, "owned_by": "harness"}
    return web.json_response({"object": "list", "data": [{"id": n, **fields} for n in names]})


async def offer(request: web.Request) -> web.Response:
    """Answer POST /harness/models: list the models of this version from now on, never an older."""
    held = request.app[VERSION]
    held[0] = max(held[0], int((await request.json())["version"]))
    return web.json_response({"version": held[0]})


async def completions(request: web.Request) -> web.StreamResponse:
    """Answer POST /v1/chat/completions: the ordered stream, or a short reply without one."""
    try:
        body = orjson.loads(await request.read())
        order = order_in(body)
    except (orjson.JSONDecodeError, AttributeError) as error:
        return web.json_response({"error": {"message": f"not a chat request: {error}"}}, status=400)
    if not body.get("stream"):
        return _reply()
    return await _stream(request, order or Order("reply", 1, 1.0), recorded=order is not None)


def _reply() -> web.Response:
    """Answer what a target asks on its own account, such as a title for the chat."""
    message = {"role": "assistant", "content": "ok"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = {"id": "chatcmpl-reply", "object": "chat.completion", "created": 0, "model": MODEL}
    return web.json_response({**body, "choices": [choice]})


async def _stream(request: web.Request, order: Order, *, recorded: bool) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    # The first write also flushes the headers, which direct writes below would overtake.
    await response.write(chunk(order.stream, {"role": "assistant", "content": ""}))
    assert request.transport is not None
    tokens = TokenStream(order, request.transport)
    with _recorded(request.app, tokens) if recorded else contextlib.nullcontext():
        await tokens.send_all()
        await response.write(chunk(order.stream, {}, "stop") + b"data: [DONE]\n\n")
    await response.write_eof()
    return response


@contextlib.contextmanager
def _recorded(app: web.Application, tokens: TokenStream) -> Iterator[None]:
    """Record the stream's opening, and its close with the cause and how many tokens were sent.

    A stream that the provider's own end cuts has no close on record: nobody closed it.
    """
    writer, stream = app[WRITER], tokens.order.stream
    writer.record("stream", stream=stream, event="open", cause=None, sent=0)
    cause = "client_closed"  # unless it reaches its end
    try:
        yield
        cause = "finished"
    except ConnectionError:
        pass  # closed between the last token and the end
    finally:
        if not app[ENDING].is_set():
            writer.record("stream", stream=stream, event="close", cause=cause, sent=tokens.sent)


def create_app(writer: HistoryWriter) -> web.Application:
    """Return the provider's application; it flushes `writer` every 50 ms and closes it."""
    app = web.Application(client_max_size=16 * 1024 * 1024)
    app[WRITER], app[ENDING], app[VERSION] = writer, asyncio.Event(), [0]

    async def ending(_: web.Application) -> None:
        app[ENDING].set()

    app.on_shutdown.append(ending)
    app.add_routes([web.get("/v1/models", models), web.post("/v1/chat/completions", completions)])
    app.router.add_post("/harness/models", offer)
    app.cleanup_ctx.append(_flushing)
    return app


async def _flushing(app: web.Application) -> AsyncIterator[None]:
    async def flush() -> None:
        while True:
            await asyncio.sleep(FLUSH_PERIOD_S)
            app[WRITER].pass_on()

    task = asyncio.create_task(flush())
    yield
    task.cancel()
    app[WRITER].close()


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description="fake model provider")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--history", type=Path, required=True)
    parser.add_argument("--base", type=float, required=True)
    options = parser.parse_args()
    writer = HistoryWriter(options.history, "provider", RunClock(options.base))
    web.run_app(
        create_app(writer),
        host=options.host,
        port=options.port,
        loop=uvloop.new_event_loop(),
        access_log=None,
        print=None,
        handler_cancellation=True,  # a closed client cancels its handler at once
        keepalive_timeout=60,
        shutdown_timeout=SHUTDOWN_S,
    )


if __name__ == "__main__":
    main()
