"""Are the sentinels enough, and agreed? Pure rules over what each of them says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from redis.exceptions import ResponseError

from runtime.operate.findings import Finding
from runtime.redis.errors import RedisUnavailable
from runtime.redis.sentinel import Sentinel
from runtime.redis.wire import Address, Wire, open_wire, shown

FEW = 3
SLOW_MS = 15_000


@dataclass(frozen=True)
class View:
    """What one sentinel says of the service. `trouble`: it did not answer, and why."""

    where: str
    fields: Mapping[str, str]
    reachable: str = ""  # its answer to CKQUORUM when that was no
    trouble: str = ""

    def number(self, name: str) -> int:
        """Return a number; 0 when it is not there."""
        text = self.fields.get(name, "0")
        return int(text) if text.isdigit() else 0

    @property
    def sentinels(self) -> int:
        """How many there are, as far as this one knows."""
        return self.number("num-other-sentinels") + 1

    @property
    def primary(self) -> str:
        """Whom it takes for the primary."""
        return f"{self.fields.get('ip')}:{self.fields.get('port')}"


async def look(topology: Sentinel) -> list[Finding]:
    """Ask every sentinel that the settings name."""
    views = [await _view(topology, address) for address in topology.sentinels]
    return list(judge(topology.service, views))


async def _view(topology: Sentinel, address: Address) -> View:
    where = f"sentinel {shown(address)}"
    wire: Wire | None = None
    try:
        wire = await open_wire(address, topology.ask, "check", decode=True)
        return await _asked(wire, where, topology.service)
    except (RedisUnavailable, ResponseError) as error:
        return View(where, {}, trouble=str(error))
    finally:
        if wire:
            wire.drop()


async def _asked(wire: Wire, where: str, service: str) -> View:
    state, quorum = await wire.call_many(
        [("SENTINEL", "MASTER", service), ("SENTINEL", "CKQUORUM", service)]
    )
    if isinstance(state, Exception):
        return View(where, {}, trouble=str(state))
    refused = str(quorum) if "NOQUORUM" in str(quorum) else ""  # an ACL may forbid the question
    return View(where, dict(zip(state[::2], state[1::2], strict=False)), refused)


def judge(service: str, views: Sequence[View]) -> Iterator[Finding]:
    """Yield what is wrong with the sentinels of a service."""
    for view in views:
        if view.trouble:
            yield Finding("sentinel-silent", "warning", view.where, "does not answer",
                          "one fewer to notice a failure and to name the primary",
                          "start it, or correct REDIS_SENTINEL_HOSTS", view.trouble)  # fmt: skip
    answered = [view for view in views if view.fields]
    if answered:
        yield from _agreed(service, answered)
        for rule in (_count, _quorum, _speed):
            yield from next(((finding,) for view in answered for finding in rule(view)), ())


def _agreed(service: str, views: Sequence[View]) -> Iterator[Finding]:
    if len({view.primary for view in views}) > 1:
        told = ", ".join(f"{view.where}: {view.primary}" for view in views)
        yield Finding("sentinels-disagree", "error", service, "sentinels name different primaries",
                      "workers may write to a node whose data will be dropped",
                      "SENTINEL RESET on those that are wrong", told)  # fmt: skip


def _count(view: View) -> Iterator[Finding]:
    if view.sentinels < FEW:
        yield Finding("few-sentinels", "warning", view.where,
                      f"there are only {view.sentinels} sentinels",
                      "when one fails the others are no majority: nobody starts a failover",
                      "run three on machines of their own",
                      f"num-other-sentinels {view.number('num-other-sentinels')}")  # fmt: skip


def _quorum(view: View) -> Iterator[Finding]:
    quorum, evidence = view.number("quorum"), f"quorum {view.fields.get('quorum')}"
    if view.reachable or quorum > view.sentinels:
        yield Finding("quorum-out-of-reach", "error", view.where,
                      f"{quorum} sentinels must agree, and so many do not answer",
                      "no failover will ever start",
                      "start the missing ones, or SENTINEL SET … quorum 2",
                      f"{evidence}, {view.sentinels} known; {view.reachable}")  # fmt: skip
    elif quorum == 1 and view.sentinels > 1:
        yield Finding("quorum-of-one", "warning", view.where,
                      f"one of {view.sentinels} sentinels is enough to call the primary down",
                      "a sentinel that is cut off alone begins failovers",
                      "SENTINEL SET … quorum 2", evidence)  # fmt: skip


def _speed(view: View) -> Iterator[Finding]:
    after = view.number("down-after-milliseconds")
    if after > SLOW_MS:
        yield Finding("failover-slow", "warning", view.where,
                      f"a dead primary is noticed after {after / 1000:g} s",
                      "so long, and then some, nobody can write",
                      "SENTINEL SET … down-after-milliseconds 5000",
                      f"down-after-milliseconds {after}")  # fmt: skip
