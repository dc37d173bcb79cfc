"""Canaries: events that cross every pair of workers all the time, so that a deaf worker shows.

One user has a socket on every worker. From every worker the harness posts events of a chat of
that user, and notes on which sockets they arrive. Quiet outside focus: a busy canary keeps
channels alive and hides idle bugs.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import uuid
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import socketio

from harness.deploy.folder import RunFolder
from harness.deploy.model import Deployment, Worker
from harness.errors import UserError
from harness.history.errors import classify
from harness.history.writer import HistoryWriter
from harness.plan import Plan
from harness.probes.base import Probe, close_quietly
from harness.probes.join import join, make_client
from harness.probes.timing import ticks
from harness.targets.base import SOCKET_PATH
from harness.waiting import WaitTimeout, wait_for

QUIET_PERIOD_S = 6.0
POST_TIMEOUT_S = 5.0
IN_FLIGHT = 64  # posts under way to one worker; beyond it posts are shed, and that is noted
OPEN_S = 10.0
ANSWER_S = 2.0  # for a connection, and for a join
AGAIN_S = 0.25
HEARTBEAT_S = 30.0
START_POLL_S = 0.05
ROUNDING = 1e-6  # of a slot: an instant on the grid is that slot, not the one before
EVENT_TYPE = "harness:canary"
FORWARDED = {"X-Forwarded-For": "198.51.100.7"}  # a documentation address of the canary's own


def next_due(now: float, focus: Sequence[tuple[float, float]], rate: float, phase: float) -> float:
    """Return when a worker posts next, in the time of `now` and `focus`.

    Inside a focus window posts lie on a grid of 1/rate from its start, shifted by `phase` of a
    period, so that workers take turns; outside one comes each 6 s.
    """
    quiet = now + QUIET_PERIOD_S
    for start, end in focus:
        if rate <= 0 or now >= end:
            continue
        slot = max(0, math.floor((now - start) * rate - phase + ROUNDING) + 1)
        due = start + (slot + phase) / rate
        if due < end:
            return min(due, quiet)
    return quiet


class CanarySocket:
    """The canary user's socket on one worker: reconnects, and records what it hears."""

    def __init__(self, worker: Worker, token: str, writer: HistoryWriter) -> None:
        self.worker = worker
        self.name = f"canary-w{worker.number}"
        self._auth = {"token": token}
        self._writer = writer
        self._http = aiohttp.ClientSession()  # given to the library, which would leak its own
        self._client: socketio.AsyncClient | None = None
        self._returning: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect and join; raise UserError when the worker does not let it in."""
        try:
            self._client = await wait_for(self._enter, OPEN_S, f"socket {self.name}")
        except WaitTimeout as error:
            raise UserError(
                f"{self.worker.url}{SOCKET_PATH}: expected a Socket.IO connection and an answer to "
                f"user-join within {OPEN_S:g} s, got {error.__cause__!r}; "
                f"see the log of worker {self.worker.number}"
            ) from error

    async def close(self) -> None:
        """Leave, without waiting for a worker that hangs."""
        client, self._client = self._client, None
        if self._returning is not None:
            self._returning.cancel()
            await asyncio.wait([self._returning], timeout=ANSWER_S)
        if client is not None:
            self._record("closed", "")
            await close_quietly(client.shutdown())
        await close_quietly(self._http.close())

    async def heartbeat(self) -> None:
        """Say that it is still there, as every client does."""
        if self._client is not None:
            with contextlib.suppress(Exception):  # a lost socket is recorded by itself
                await self._client.emit("heartbeat", {})

    async def _enter(self) -> socketio.AsyncClient:
        """Open a new connection and join; a connection that cannot join is closed again."""
        client = make_client(self._http)
        client.on("disconnect", partial(self._lost, client))
        client.on("events", self._heard)
        await join(client, self.worker.url, self._auth, ANSWER_S, FORWARDED)
        self._client = client
        self._record("opened", "")
        return client

    async def _lost(self, client: socketio.AsyncClient, reason: str = "") -> None:
        """Record the loss, and come back at once and for as long as it takes."""
        if client is self._client:
            self._client = None
            self._record("lost", reason)
            self._returning = asyncio.create_task(self._return(client))

    async def _return(self, lost: socketio.AsyncClient) -> None:
        await close_quietly(lost.shutdown())
        async for _ in ticks(AGAIN_S):
            with contextlib.suppress(Exception):  # refused, timed out, closed meanwhile
                await self._enter()
                return

    def _record(self, event: str, reason: str) -> None:
        self._writer.record("socket", socket=self.name, event=event, reason=reason)

    async def _heard(self, payload: Any) -> None:
        data = payload.get("data") if isinstance(payload, dict) else None
        if not isinstance(data, dict) or data.get("type") != EVENT_TYPE:
            return
        canary = data["data"]
        here = self.worker.number
        self._writer.record(
            "canary",
            event="heard",
            n=canary["n"],
            origin=canary["origin"],
            at=here,
            sent=canary["sent"],
            local=canary["origin"] == here,
        )


class CanaryProbe(Probe):
    """Posts canaries from every worker and listens on every worker."""

    name = "canary"

    def __init__(
        self, deployment: Deployment, plan: Plan, run: RunFolder, writer: HistoryWriter
    ) -> None:
        super().__init__(deployment, writer)
        self._plan = plan
        self._run = run
        self._rate = float(plan.scenario["focus"]["canaries_per_s"])
        self._http: aiohttp.ClientSession | None = None
        self._sockets: list[CanarySocket] = []
        self._focus: list[tuple[float, float]] = []
        self._under_way: Counter[int] = Counter()
        self._shed: Counter[int] = Counter()
        self._n = 0

    async def start(self) -> None:
        """Open a socket on every worker and make a chat; then begin to post."""
        account = canary_account(self._run.accounts)
        token = str(account["token"])
        self._http = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {token}", **FORWARDED},
            timeout=aiohttp.ClientTimeout(total=POST_TIMEOUT_S),
            connector=aiohttp.TCPConnector(limit=0),
            json_serialize=lambda value: orjson.dumps(value).decode(),
        )
        workers = self.deployment.workers
        self._sockets = [CanarySocket(worker, token, self.writer) for worker in workers]
        await asyncio.gather(*(socket.open() for socket in self._sockets))
        self._chat = await self._new_chat(workers[0])
        self.spawn(self._await_load())
        self.spawn(self._beat())
        for worker in workers:
            self.spawn(self._post_forever(worker, worker.number / len(workers)))

    async def watch(self) -> None:
        """Do nothing: every worker has its own task."""

    async def stop(self) -> None:
        """Close sockets and client; say how many posts were shed."""
        await super().stop()
        for worker, count in self._shed.items():
            text = f"canary: {count} posts to worker {worker} shed, {IN_FLIGHT} were under way"
            self.writer.record("note", level="warning", text=text)
        await asyncio.gather(*(socket.close() for socket in self._sockets))
        if self._http is not None:
            await close_quietly(self._http.close())

    @property
    def _client(self) -> aiohttp.ClientSession:
        assert self._http is not None, "start() opens the client"
        return self._http

    async def _new_chat(self, worker: Worker) -> str:
        url = f"{worker.url}/api/v1/chats/new"
        body = {"chat": {"title": "canary", "messages": [], "history": {"messages": {}}}}
        async with self._client.post(url, json=body, allow_redirects=False) as answer:
            text = await answer.text()
        if answer.status != 200:
            raise UserError(
                f"POST {url}: expected 200 and a new chat for canaries, got {answer.status}: "
                f"{text[:200]}; see the log of worker {worker.number}"
            )
        return str(orjson.loads(text)["id"])

    async def _await_load(self) -> None:
        """Learn load second 0 from the start file; canaries are quiet until then."""
        path = self._run.data / "start.json"
        async for _ in ticks(START_POLL_S):
            with contextlib.suppress(OSError, orjson.JSONDecodeError):  # not there yet
                t0 = float(orjson.loads(path.read_bytes())["t0"])
                self._focus = [(t0 + start, t0 + end) for start, end in self._plan.focus]
                return

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            await asyncio.gather(*(socket.heartbeat() for socket in self._sockets))

    async def _post_forever(self, worker: Worker, phase: float) -> None:
        """Post on the timetable whether earlier posts were answered or not."""
        due = self.writer.clock.now()
        while True:
            if self._under_way[worker.number] < IN_FLIGHT:
                self.spawn(self._post(worker))
            else:
                self._shed[worker.number] += 1
            due = await self._next(due, phase)

    async def _next(self, last: float, phase: float) -> float:
        """Sleep until the next post; look again each 50 ms until the focus is known."""
        while True:
            due = next_due(last, self._focus, self._rate, phase)
            left = due - self.writer.clock.now()
            if left <= 0:
                return due
            await asyncio.sleep(left if self._focus else min(left, START_POLL_S))

    async def _post(self, worker: Worker) -> None:
        self._n += 1
        n, sent = self._n, self.writer.clock.now()
        self._under_way[worker.number] += 1
        data = {"type": EVENT_TYPE, "data": {"n": n, "origin": worker.number, "sent": sent}}
        url = f"{worker.url}/api/v1/chats/{self._chat}/messages/{uuid.uuid4()}/event"
        identity = self.writer.invoke("event_post", worker=worker.number, n=n, origin=worker.number)
        try:
            outcome, fields = await self._send(url, data)
        finally:
            self._under_way[worker.number] -= 1
        self.writer.complete(outcome, identity, "event_post", n=n, origin=worker.number, **fields)

    async def _send(self, url: str, data: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        try:
            async with self._client.post(url, json=data, allow_redirects=False) as answer:
                detail = b"detail" in await answer.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            outcome, code = classify(error)
            return outcome, {"error": code}
        if answer.status == 200:
            return "ok", {}
        outcome, code = classify(answer.status, detail=detail)
        return outcome, {"error": code}


def canary_account(path: Path) -> dict[str, Any]:
    """Return the canary user's account, which the load's preparation made."""
    accounts = orjson.loads(path.read_bytes())
    account: dict[str, Any] = accounts["canary"]
    return account
