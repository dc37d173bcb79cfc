"""What workers have to agree on: configuration, a rate limit, model lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from harness.checks.base import Check, Facts, Finding
from harness.checks.measure import Worst, decide, missing_workers, spread
from harness.history.records import FAIL, INFO, OK, Record
from harness.targets.base import CONFIG, MODEL_LISTS, PROVIDER, SIGN_IN_LIMIT
from harness.vocabulary import MODELS_LISTED

NEVER = float("inf")
EMPTY = -1  # the version of a list without models
FAMILY = "agreement"


@dataclass(frozen=True)
class _Change:
    """A change that was sent. `done` is when it was answered, never when nobody knows."""

    value: int
    sent: float
    done: float
    id: str
    acknowledged: bool


@dataclass(frozen=True)
class _Look:
    """What a worker showed: a value, or None for none that was ever sent."""

    value: int | None
    worker: int
    sent: float
    t: float
    id: str


def _due(
    looks: Iterable[_Look], settled: Sequence[tuple[float, _Change]]
) -> Iterator[tuple[_Look, list[_Change]]]:
    """Yield each look with the changes that had to be known by then, of which `settled` tells."""
    for look in looks:
        yield look, [change for known_by, change in settled if known_by < look.sent]


class ConfigAgrees(Check):
    """A value that is over: a later change was sent after it was done, and had its time."""

    name = "config-agrees"
    family = FAMILY
    sentence = "A changed setting is soon the same on every worker, and never goes back."
    needs = frozenset({CONFIG})
    kinds = frozenset({OK, FAIL, INFO})
    ops = frozenset({"config_write", "config_read"})

    def __init__(self) -> None:
        self._changes: list[_Change] = []
        self._looks: list[_Look] = []

    def feed(self, record: Record) -> None:
        """Fold one record."""
        asked, kind = record["invoke"], record["k"]
        if record["op"] == "config_write":
            done = NEVER if kind == INFO else record["t"]
            self._changes.append(
                _Change(asked["value"], asked["t"], done, record["id"], kind == OK)
            )
        elif kind == OK:
            look = (record["value"], asked["worker"], asked["t"], record["t"], record["id"])
            self._looks.append(_Look(*look))

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        bound, bad, proving = facts.bounds["config_agrees_s"], Worst(), Counter[int]()
        by_value = {change.value: change for change in self._changes}
        settled = [(facts.due_by(c.done, bound), c) for c in self._changes if c.acknowledged]
        for look, due in _due(self._looks, settled):
            proving[look.worker] += bool(due)
            shown = by_value.get(look.value) if look.value is not None else None
            over = [change for change in due if shown is None or change.sent > shown.done]
            if over:
                newest = max(over, key=lambda change: change.sent)
                late = look.sent - newest.done
                text = f"worker {look.worker} showed {look.value} {late:.1f} s after {newest.value}"
                bad.add(late, f"{text} was acknowledged", look.t, newest.id, look.id)
        return decide(
            self,
            bad,
            0,
            "times a worker showed a setting that had long been replaced",
            missing_workers(+proving, facts.workers, "look at a change that had its time"),
            quantities={"changes": len(settled), "looks": len(self._looks), "stale": bad.count},
            bound=f"≤ {bound:g} s",
        )


@dataclass
class _Burst:
    """The attempts on one account: how many were admitted, denied, or of unknown fate."""

    start: float
    end: float = 0.0
    admitted: int = 0
    denied: int = 0
    unknown: int = 0
    ids: list[str] = field(default_factory=list)


class LimitHeld(Check):
    """A limit of N is N for the deployment, not for each worker."""

    name = "limit-held"
    family = FAMILY
    sentence = "A limit of N sign-ins admits N, however many workers are asked."
    needs = frozenset({SIGN_IN_LIMIT})
    kinds = frozenset({OK, FAIL, INFO})
    ops = frozenset({"sign_in_try"})

    def __init__(self) -> None:
        self._bursts: dict[str, _Burst] = {}

    def feed(self, record: Record) -> None:
        """Fold one record."""
        asked = record["invoke"]
        burst = self._bursts.setdefault(asked["account"], _Burst(asked["t"]))
        burst.end = record["t"]
        if record["k"] != OK:
            burst.unknown += 1
        elif record["admitted"]:
            burst.admitted += 1
            burst.ids.append(record["id"])
        else:
            burst.denied += 1

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        limit, bad, apart, admitted = facts.bounds["sign_in_limit"], Worst(), 0, []
        for account, burst in self._bursts.items():
            fault = facts.fault_over(burst.start - facts.bounds["recovery_s"], burst.end)
            allowed = limit * (facts.workers if fault else 1)
            apart += fault is not None
            admitted.append(burst.admitted)
            text = f"{account}: {burst.admitted} attempts admitted, {burst.denied} denied, limit "
            if burst.admitted > allowed:
                told = f"{text}{allowed:g}" + (f" during {fault.name or fault.id}" if fault else "")
                bad.add(burst.admitted - allowed, told, burst.start, *burst.ids[-3:])
            elif burst.denied and burst.admitted + burst.unknown < limit:
                bad.add(limit - burst.admitted, f"{text}{limit:g}", burst.start, *burst.ids[-3:])
        full = sum(burst.admitted + burst.denied > limit for burst in self._bursts.values())
        return decide(
            self,
            bad,
            0,
            "accounts were not held to the limit",
            "" if full else "no account was tried beyond the limit",
            quantities={
                "accounts": len(self._bursts),
                "beyond_the_limit": full,
                "touched_by_a_fault": apart,
                **spread("admitted", admitted, 0),
            },
            bound=f"{limit:g}; with a fault ≤ {limit:g} per worker",
        )


class ModelListWhole(Check):
    """Readers see the old list or the new one."""

    name = "model-list-whole"
    family = FAMILY
    sentence = "A model list is never empty, cut short or mixed, also while it is made anew."
    needs = frozenset({MODEL_LISTS, PROVIDER})
    kinds = frozenset({OK})
    ops = frozenset({"models_read", "models_refresh"})

    def __init__(self) -> None:
        self._lists: Counter[int] = Counter()
        self._refreshed = 0
        self._shown: list[tuple[dict[str, int], int, float, str]] = []  # versions, worker, t, id

    def feed(self, record: Record) -> None:
        """Fold one record."""
        asked, versions = record["invoke"], record["versions"]
        self._lists[asked["worker"]] += 1
        self._refreshed += record["op"] == "models_refresh"
        if [*versions.values()] != [MODELS_LISTED]:
            self._shown.append((versions, asked["worker"], record["t"], record["id"]))

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        bad = Worst()
        for versions, worker, t, identity in self._shown:
            shown = ", ".join(f"{count} of version {v}" for v, count in versions.items()) or "none"
            text = f"worker {worker} listed {shown}, of {MODELS_LISTED}"
            bad.add(MODELS_LISTED - sum(versions.values()), text, t, identity)
        thin = missing_workers(self._lists, facts.workers, "model list")
        return decide(
            self,
            bad,
            0,
            "model lists were not whole",
            thin or ("" if self._refreshed else "no list was made anew"),
            quantities={
                "lists": sum(self._lists.values()),
                "made_anew": self._refreshed,
                "not_whole": bad.count,
            },
            bound="0 lists that are not whole",
        )


class ModelListFresh(Check):
    """After a refresh nobody may show what was listed before it."""

    name = "model-list-fresh"
    family = FAMILY
    sentence = "Once a model list was made anew, no worker goes on showing the old one."
    needs = frozenset({MODEL_LISTS, PROVIDER})
    kinds = frozenset({OK})
    ops = frozenset({"models_read", "models_refresh"})

    def __init__(self) -> None:
        self._changes: list[_Change] = []
        self._looks: list[_Look] = []

    def feed(self, record: Record) -> None:
        """Fold one record."""
        asked = record["invoke"]
        if record["op"] == "models_refresh":
            done = (asked["version"], asked["t"], record["t"], record["id"], True)
            self._changes.append(_Change(*done))
        versions = [int(version) for version in record["versions"]]
        look = (
            max(versions, default=EMPTY),
            asked["worker"],
            asked["t"],
            record["t"],
            record["id"],
        )
        self._looks.append(_Look(*look))

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        bound, bad, proving = facts.bounds["model_list_fresh_s"], Worst(), Counter[int]()
        settled = [(facts.due_by(change.done, bound), change) for change in self._changes]
        for look, due in _due(self._looks, settled):
            proving[look.worker] += bool(due)
            older = [c for c in due if look.value is not None and c.value > look.value]
            if older and not self._being_swapped(look):
                oldest = min(older, key=lambda change: change.done)
                late = look.sent - oldest.done
                text = f"worker {look.worker} showed version {look.value} {late:.1f} s after"
                bad.add(late, f"{text} {oldest.value} was fetched", look.t, oldest.id, look.id)
        return decide(
            self,
            bad,
            0,
            "model lists were older than the last one that was fetched",
            missing_workers(+proving, facts.workers, "list that had to be new"),
            quantities={"refreshes": len(settled), "lists": len(self._looks), "stale": bad.count},
            bound=f"≤ {bound:g} s",
        )

    def _being_swapped(self, look: _Look) -> bool:
        """Tell whether an empty list was seen while one was made: `model-list-whole` judges it."""
        beside = any(c.sent <= look.t and look.sent <= c.done for c in self._changes)
        return look.value == EMPTY and beside
