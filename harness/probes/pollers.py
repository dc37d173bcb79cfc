"""Clients that can only poll: something on their way does not let WebSockets through.

Engine.IO's long polling is several requests of one session, and the session lives in one worker.
Each client connects, is confirmed, and leaves, again and again, by plain HTTP requests.
"""

from __future__ import annotations

from typing import Any

import aiohttp
import orjson

from harness.deploy.folder import RunFolder
from harness.deploy.model import Deployment
from harness.history.errors import classify
from harness.history.writer import HistoryWriter
from harness.load.entry import Entry
from harness.plan import Plan
from harness.probes.base import Probe, close_quietly
from harness.probes.canary import FORWARDED, canary_account
from harness.probes.timing import ticks
from harness.targets.base import SOCKET_PATH

PERIOD_S = 1.0
ANSWER_S = 5.0  # an idle poll is answered late by design; the CONNECT's answer is there at once
HTTP_OK = 200
OP = "poll_connect"
CONNECTED, REFUSED = "connected", "refused"


class SessionCut(Exception):
    """The server let the client in, and then did not know its session."""


class PollerProbe(Probe):
    """Lets clients connect by long polling, through the balancer where there is one.

    `sticky` clients always reach the same worker, as with a balancer that keeps them there. The
    others are placed anew for each request: by the balancer, else in turn.
    """

    name = "pollers"

    def __init__(
        self, deployment: Deployment, plan: Plan, run: RunFolder, writer: HistoryWriter
    ) -> None:
        super().__init__(deployment, writer)
        pollers = plan.scenario["load"]["pollers"]
        self._clients = int(pollers["clients"])
        self._sticky = bool(pollers["sticky"])
        self._run = run
        self._turn = 0
        self._http: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Begin, unless the scenario has no such clients."""
        if not self._clients:
            return
        self._entry = Entry.of(self.deployment)
        self._token = str(canary_account(self._run.accounts)["token"])
        self._http = aiohttp.ClientSession(
            headers=FORWARDED,
            timeout=aiohttp.ClientTimeout(total=ANSWER_S),
            connector=aiohttp.TCPConnector(limit=0),
        )
        await super().start()

    async def stop(self) -> None:
        """End all clients."""
        await super().stop()
        if self._http is not None:
            await close_quietly(self._http.close())

    async def watch(self) -> None:
        """Let every client try once a period; a try that takes longer is not waited for."""
        async for _ in ticks(PERIOD_S):
            for client in range(self._clients):
                self.spawn(self._visit(client))

    async def _visit(self, client: int) -> None:
        """Connect and leave; record how it ended."""
        identity = self.writer.invoke(OP, client=client, sticky=self._sticky)
        try:
            state = await self._connect(client)
        except Exception as error:  # every failure is a finding, none ends the probe
            outcome, code = classify(error)
            self.writer.complete(outcome, identity, OP, error=code, text=str(error))
            return
        self.writer.complete("ok", identity, OP, state=state)

    async def _connect(self, client: int) -> str:
        """Return CONNECTED or REFUSED; raise SessionCut, or what aiohttp raises."""
        status, body = await self._request("GET", client, "")
        if status != HTTP_OK:
            return REFUSED
        sid = str(orjson.loads(body[1:])["sid"])
        auth = orjson.dumps({"token": self._token})
        await self._of_session("POST", client, sid, b"40" + auth)
        while b"40" not in (body := await self._of_session("GET", client, sid)):
            if b"44" in body:
                return REFUSED
        await self._of_session("POST", client, sid, b"1")  # Engine.IO's close
        return CONNECTED

    async def _of_session(self, method: str, client: int, sid: str, data: bytes = b"") -> bytes:
        status, body = await self._request(method, client, f"&sid={sid}", data)
        if status != HTTP_OK:
            raise SessionCut(f"{method} of an open session: {status} {body[:100]!r}")
        return body

    async def _request(
        self, method: str, client: int, session: str, data: bytes = b""
    ) -> tuple[int, bytes]:
        assert self._http is not None, "start() opens the client"
        worker = self._worker(client)
        url = f"{self._entry.url(worker)}{SOCKET_PATH}/?EIO=4&transport=polling{session}"
        headers = self._entry.pin(worker if self._sticky else None)
        more: dict[str, Any] = {"data": data} if data else {}
        async with self._http.request(method, url, headers=headers, **more) as answer:
            return answer.status, await answer.read()

    def _worker(self, client: int) -> int:
        """Return whom to dial: always the same one, or the next in turn."""
        self._turn += 1
        return (client if self._sticky else self._turn) % len(self.deployment.workers)
