"""Sends what workers exported on to another collector, as it came: `--otlp-forward URL`.

Never a queue, and never for long: an export waits up to a second for the other collector; after a
failure nothing is sent on for five, and what was not sent is counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp

from harness.errors import UserError

SEND_S = 1.0
PAUSE_S = 5.0
FIRST_ERROR = 300  # statuses from here on mean that the collector did not take it


@dataclass(frozen=True)
class ForwardTo:
    """What `--otlp-forward` says, and which hosts are ours although they are not loopback."""

    url: str
    allowed: tuple[str, ...] = ()

    @classmethod
    def parse(cls, url: str, allowed: tuple[str, ...]) -> ForwardTo:
        """Return it; raise UserError for what is no collector's URL, or a host that is not ours."""
        from harness.targets.external.hosts import require_allowed

        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise UserError(
                f"--otlp-forward {url}: expected the base URL of a collector that takes OTLP over "
                "HTTP, without a password in it, such as http://127.0.0.1:4318"
            )
        require_allowed([url], frozenset(allowed), "Spans tell much of what runs there")
        return cls(url.rstrip("/").removesuffix("/v1/traces"), allowed)

    @property
    def words(self) -> list[str]:
        """Return the words of a command line that say the same."""
        hosts = (word for host in self.allowed for word in ("--allow-host", host))
        return ["--otlp-forward", self.url, *hosts]


@dataclass
class Forwarder:
    """Sends bodies to `url`, a base such as http://127.0.0.1:4318, under the path they came to."""

    url: str
    say: Callable[[str], None]
    now: Callable[[], float] = time.monotonic
    sent: int = 0
    lost: int = 0
    _resume: float = 0.0
    _http: aiohttp.ClientSession | None = field(default=None, repr=False)

    async def send(self, path: str, body: bytes, content_type: str) -> bool:
        """Send one export on; tell whether the other collector took it."""
        if self.now() < self._resume:
            self.lost += 1
            return False
        try:
            await self._post(path, body, content_type)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            self._fail(error)
            return False
        self.sent += 1
        return True

    async def _post(self, path: str, body: bytes, content_type: str) -> None:
        if self._http is None:
            timeout = aiohttp.ClientTimeout(total=SEND_S)
            self._http = aiohttp.ClientSession(timeout=timeout)
        headers = {"Content-Type": content_type}
        async with self._http.post(self.url + path, data=body, headers=headers) as answer:
            if answer.status >= FIRST_ERROR:
                raise ValueError(f"it answered {answer.status}")

    def _fail(self, error: Exception) -> None:
        if not self.lost:
            said = str(error) or type(error).__name__
            self.say(f"spans do not reach {self.url}: {said}; the run's own copy is whole")
        self.lost += 1
        self._resume = self.now() + PAUSE_S

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.close()
