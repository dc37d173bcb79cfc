"""Deaf workers: canaries cross every pair of workers; who hears none is deaf."""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Sequence

from harness.checks.base import Check, Facts, Finding
from harness.checks.canaries import DIED, SOCKET_GONE, Canaries, pairs
from harness.checks.facts import end_of, instants
from harness.checks.measure import Worst, decide, missing_workers, spread
from harness.history.records import INVOKE, Record


class DeafTime(Check):
    """From the switch (or heal) until each worker hears each other again."""

    name = "deaf-time"
    family = "delivery"
    sentence = "Soon after a failover every worker hears every other worker's events again."
    kinds = frozenset({"canary", "invoke"})
    ops = frozenset({"event_post"})

    def __init__(self) -> None:
        self._posted: dict[int, list[float]] = defaultdict(list)  # worker → when one was sent
        self._heard: dict[tuple[int, int], list[float]] = defaultdict(list)
        self._took: list[float] = []

    def feed(self, record: Record) -> None:
        """Fold one record."""
        if record["k"] == INVOKE:
            self._posted[record["origin"]].append(record["t"])
            return
        self._heard[record["origin"], record["at"]].append(record["t"])
        if record["origin"] != record["at"]:
            self._took.append((record["t"] - record["sent"]) * 1000)

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        bound, bad, times, short = facts.bounds["deaf_time_s"], Worst(), [], 0
        thin = self._silent(facts)
        for since, why in instants(facts):
            for pair in pairs(facts.workers):
                if _held(facts, pair, since):  # the heal of that fault is an instant too
                    continue
                again = _next(self._heard.get(pair, ()), since)
                deaf = (end_of(facts) if again is None else again) - since
                times.append(deaf)
                if deaf > bound + facts.clock_error and not self._asked(pair[0], since, bound):
                    thin = f"no canary was sent by worker {pair[0]} within {bound:g} s of the {why}"
                elif deaf > bound + facts.clock_error:
                    until = "to the end" if again is None else f"for {deaf:.2f} s"
                    text = f"worker {pair[1]} did not hear worker {pair[0]} {until} after the {why}"
                    bad.add(deaf, text, since)
                elif again is None:
                    short += 1
        if short:
            thin = f"the run ended too early to judge {short} pairs"
        return decide(
            self,
            bad,
            0,
            "times a worker stayed deaf to another",
            thin,
            quantities={
                "pairs": len(pairs(facts.workers)),
                "instants": len(instants(facts)),
                **spread("deaf_s", times),
                **spread("crossing_ms", self._took, 1),
            },
            bound=f"≤ {bound:g} s",
        )

    def _silent(self, facts: Facts) -> str:
        silent = [pair for pair in pairs(facts.workers) if not self._heard.get(pair)]
        return f"no canary at all from worker to worker: {silent}" if silent else ""

    def _asked(self, worker: int, since: float, bound: float) -> bool:
        """Tell whether a canary was sent in time to be heard within the bound."""
        sent = _next(self._posted.get(worker, ()), since)
        return sent is not None and sent < since + bound


def _next(times: Sequence[float], since: float) -> float | None:
    """Return the first of these instants, which are in order, from then on; None without one."""
    place = bisect.bisect_left(times, since)
    return times[place] if place < len(times) else None


def _held(facts: Facts, pair: tuple[int, int], t: float) -> bool:
    """Tell whether a fault that goes on holds one of the two."""
    found = (f for f in facts.faults if not {*pair}.isdisjoint(f.workers))
    return any(fault.window.start <= t < fault.window.end for fault in found)


class CanariesDelivered(Check):
    """An acknowledged canary reaches the sockets on all workers, once."""

    name = "canaries-delivered"
    family = "delivery"
    sentence = "An acknowledged event reaches its user on every worker, once."
    kinds = frozenset({"ok", "canary", "socket"})
    ops = frozenset({"event_post"})

    def __init__(self) -> None:
        self._canaries = Canaries()

    def feed(self, record: Record) -> None:
        """Fold one record."""
        self._canaries.feed(record)

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        lost, excused, canaries = Worst(), Counter[str](), self._canaries
        for (origin, n), post in canaries.posted.items():
            for at in range(facts.workers):
                if canaries.heard[origin, n, at]:
                    continue
                if excuse := canaries.excuse(facts, post, at):
                    excused[excuse] += 1
                    continue
                text = f"canary {n} from worker {origin} never reached worker {at}"
                lost.add(post.sent, text, post.sent, post.id)
        return self._finding(facts, lost, {name: excused[name] for name in (SOCKET_GONE, DIED)})

    def _finding(self, facts: Facts, lost: Worst, apart: dict[str, int]) -> Finding:
        twice = sum(count - 1 for count in self._canaries.heard.values() if count > 1)
        allowed = facts.bounds["tokens_duplicated"]
        for (origin, n, at), count in self._canaries.heard.items():
            if count > 1 and twice > allowed:
                post = self._canaries.posted.get((origin, n))
                text = f"canary {n} of worker {origin} reached worker {at} {count} times"
                lost.add(count, text, post.sent if post else 0.0, post.id if post else None)
        origins = {origin for origin, _ in self._canaries.posted}
        thin = missing_workers(origins, facts.workers, "acknowledged canary")
        return decide(
            self,
            lost,
            0 if twice > allowed else facts.bounds["tokens_lost"],
            "acknowledged canaries were lost or came twice",
            thin or self._unheard(facts),
            quantities={
                "posted": len(self._canaries.posted),
                "lost_or_repeated": lost.count,
                "duplicated": twice,
                **apart,
            },
            bound=f"≤ {facts.bounds['tokens_lost']:g} lost, ≤ {allowed:g} duplicated",
        )

    def _unheard(self, facts: Facts) -> str:
        """Tell on which workers nothing was heard: sockets that were gone excuse every canary."""
        heard = {at for _, _, at in self._canaries.heard}
        return missing_workers(heard, facts.workers, "canary heard")
