"""/health and /ready of every worker on a fixed timetable, so that a hang is measured."""

from __future__ import annotations

from typing import Any

import aiohttp
import orjson

from harness.clock import monotonic
from harness.deploy.model import Deployment, Worker
from harness.history.writer import HistoryWriter
from harness.probes.base import Probe, close_quietly
from harness.probes.timing import ticks

PERIOD_S = 0.5
TIMEOUT_S = 2.0
PATHS = ("/health", "/ready")
DETAIL = 300  # characters of a refusal that are kept
NO_ANSWER = 0  # the status recorded when there was none


class HealthProbe(Probe):
    """Asks twice a second, whether the last question was answered or not."""

    name = "health"
    _session: aiohttp.ClientSession | None = None

    def __init__(self, deployment: Deployment, writer: HistoryWriter, cookie: str = "") -> None:
        super().__init__(deployment, writer)
        self._headers = {"Cookie": cookie} if cookie else {}

    async def start(self) -> None:
        """Open the client and begin."""
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            connector=aiohttp.TCPConnector(limit=0),
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        await super().start()

    async def stop(self) -> None:
        """End all questions under way."""
        await super().stop()
        if self._session is not None:
            await close_quietly(self._session.close())

    async def watch(self) -> None:
        """Ask every worker both paths."""
        async for _ in ticks(PERIOD_S):
            for worker in self.deployment.workers:
                for path in PATHS:
                    self.spawn(self._ask(worker, path))

    async def _ask(self, worker: Worker, path: str) -> None:
        sent, began = self.writer.clock.now(), monotonic()
        status, error, detail = await self._status(worker.url + path)
        more: dict[str, Any] = {"detail": detail} if detail else {}
        self.writer.record(
            "sample",
            probe="health",
            worker=worker.number,
            path=path,
            status=status,
            ms=round((monotonic() - began) * 1000, 1),
            sent=sent,
            error=error,
            **more,
        )

    async def _status(self, url: str) -> tuple[int, str, str]:
        """Return status, what went wrong with the question, and what a refusal says."""
        assert self._session is not None, "start() opens the client"
        try:
            async with self._session.get(url, allow_redirects=False) as answer:
                body = await answer.read()
                return answer.status, "", "" if answer.ok else detail_of(body)
        except TimeoutError:
            return NO_ANSWER, f"no answer within {TIMEOUT_S:g} s", ""
        except (aiohttp.ClientError, OSError) as error:
            return NO_ANSWER, f"{type(error).__name__}: {error}", ""


def detail_of(body: bytes) -> str:
    """Return why a worker refuses: the `detail` of a JSON body, else its first characters."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    text = found.get("detail") if isinstance(found, dict) else None
    return str(text or body.decode(errors="replace"))[:DETAIL]
