"""Sentinel mode: every sentinel is asked all the time; the newest epoch wins."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from redis.exceptions import ResponseError

from runtime.redis.errors import RedisUnavailable, translate
from runtime.redis.topology import ASK_TIMEOUT_S, Key, Topology, log
from runtime.redis.wire import Address, Dial, Wire, open_wire, shown

FRESH_S = 2.0


@dataclass(frozen=True)
class Answer:
    """What one sentinel says: the primary and the epoch of its configuration."""

    address: Address
    epoch: int


def decide(known: Answer | None, answers: Sequence[Answer], sentinels: int) -> Answer | None:
    """Return whom to believe.

    The highest epoch wins, so that a sentinel that missed the failover cannot lead us back to
    the old primary. A lower epoch counts only when a majority agrees (sentinels were reset).
    """
    if not answers:
        return known
    best = max(answers, key=lambda a: a.epoch)
    if known is None or best.epoch >= known.epoch:
        return best
    agreed = len(answers) * 2 > sentinels and len({a.address for a in answers}) == 1
    return best if agreed else known


class Sentinel(Topology):
    """A primary that sentinels name. Keeps one connection to each of them."""

    mode = "sentinel"

    def __init__(self, service: str, sentinels: Sequence[Address], dial: Dial, ask: Dial) -> None:
        super().__init__(dial)
        self.service = service
        self.sentinels = tuple(sentinels)
        self.ask = ask
        self._best: Answer | None = None
        self._answers: dict[Address, tuple[float, Answer]] = {}

    def current(self, key: Key) -> Address | None:  # noqa: ARG002 - one primary
        """Return the primary."""
        return self._best.address if self._best else None

    async def dial_node(self, address: Address, purpose: str, decode: bool = False) -> Wire:
        """Open a connection and make sure that the node agrees to be the primary."""
        wire = await super().dial_node(address, purpose, decode)
        try:
            role = (await wire.call("ROLE"))[0]
        except ResponseError:  # a service without ROLE: READONLY will tell
            return wire
        except BaseException:
            wire.drop()
            raise
        if role not in ("master", b"master"):
            wire.drop()
            raise RedisUnavailable(f"{shown(address)} is a replica", refused=True)
        return wire

    def _watchers(self) -> list[asyncio.Task[None]]:
        return [
            asyncio.create_task(self._watch(address), name=f"sentinel {address[0]}:{address[1]}")
            for address in self.sentinels
        ]

    async def _watch(self, address: Address) -> None:
        wire: Wire | None = None
        try:
            while True:
                try:
                    if wire is None or not wire.is_open:
                        wire = await open_wire(address, self.ask, "sentinel", decode=True)
                    self._hear(address, await self._question(wire))
                    self._trouble.pop(address, None)
                except RedisUnavailable as error:
                    self._trouble[address] = error.reason
                    self._answers.pop(address, None)
                    await asyncio.sleep(self.dial.pause(0))
                except Exception:  # a strange answer must not end the watch
                    log.exception("sentinel %s:%s", *address)
                await self._pause()
        finally:
            if wire:
                wire.drop()

    async def _question(self, wire: Wire) -> Answer | None:
        """Ask for the address and its epoch; None when the sentinel does not know the service."""
        questions = [
            ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service),
            ("SENTINEL", "MASTER", self.service),
        ]
        address, state = await wire.call_many(questions, ASK_TIMEOUT_S)
        if isinstance(address, Exception) and (denied := translate(address)):
            raise denied
        if not address:
            raise RedisUnavailable(f"{shown(wire.address)} watches no service `{self.service}`")
        if isinstance(address, Exception) or isinstance(state, Exception):
            return None
        fields = dict(zip(state[::2], state[1::2], strict=False))
        return Answer((address[0], int(address[1])), int(fields.get("config-epoch", 0)))

    def _hear(self, sentinel: Address, answer: Answer | None) -> None:
        now = time.monotonic()
        if answer is None:
            self._answers.pop(sentinel, None)
        else:
            self._answers[sentinel] = (now, answer)
        fresh = [a for at, a in self._answers.values() if now - at < FRESH_S]
        before, self._best = self._best, decide(self._best, fresh, len(self.sentinels))
        if self._best is None:
            return
        self._known.set()
        if before and before.address != self._best.address:
            log.warning("primary of %s moved to %s:%s", self.service, *self._best.address)
            self._changed()

    def _unknown(self) -> str:
        asked = f"no sentinel of {len(self.sentinels)}"
        return f"{asked} tells the primary of `{self.service}`{self._why()}"
