"""Facts of a run: fault windows, switches, focus, load; from history, plan and run.json."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from harness.checks.base import Facts, FaultFact, Window
from harness.history.records import Record
from harness.shape import WARM_UP
from harness.targets.base import INSTRUMENTS
from harness.vocabulary import default_bounds

BOOT = "boot"  # id of the fault that a deployment without Redis is recorded as
KINDS = frozenset({"header", "phase", "fault", "switch", "focus"})


@dataclass(frozen=True)
class RunFacts(Facts):
    """Facts with what only the checks of this package need. Times in run seconds."""

    end: float = 0.0  # when the load had taken its last look: nothing later is judged
    planned: tuple[str, ...] = ()  # ids of the plan's faults
    processes: int = 1  # load processes
    boot: tuple[FaultFact, ...] = ()  # faults that were over before the load: nothing excuses it
    parts: tuple[tuple[str, float, float], ...] = ()  # of the load: name, start, end, load seconds
    redis_addresses: tuple[str, ...] = ()  # host:port of every server; empty: not known
    warm: float = 0.0  # when the warm-up was over
    steady: bool = True  # the load is planned to be the same all the time


def measured(facts: Facts) -> Window:
    """Return the load without its warm-up."""
    return Window(max(facts.load.start, getattr(facts, "warm", 0.0)), facts.load.end)


def end_of(facts: Facts) -> float:
    """Return when the last look was taken; later records are the teardown's."""
    return getattr(facts, "end", 0.0) or facts.load.end


def switches_of(facts: Facts, fault: FaultFact) -> list[float]:
    """Return the switches while a fault lasted. One that is aimed at workers moves no primary."""
    return [] if fault.workers else [t for t in facts.switches if t in fault.window]


def instants(facts: Facts) -> list[tuple[float, str]]:
    """Return when everything must begin to work again: each switch, or a heal without one."""
    found = [(t, "switch") for t in facts.switches]
    found += [
        (fault.window.end, f"heal of {fault.name or fault.id}")
        for fault in facts.faults
        if not switches_of(facts, fault)
    ]
    return sorted(found)


def _steady(shape: Iterable[dict[str, Any]]) -> bool:
    """Tell whether all parts of the load but the warm-up have the same levels."""
    parts = [part for part in shape if part["name"] != WARM_UP]
    return len({level for p in parts for level in p["reads_per_s"]}) <= 1 and (
        len({level for p in parts for level in p["users"]}) <= 1
    )


@dataclass
class _Seen:
    """What the history has said of one fault so far."""

    record: Record
    start: float
    end: float | None = None
    confirmed: bool = False
    healed: bool = False
    evidence: list[str] = field(default_factory=list)
    loses_data: bool = False
    closes_sockets: bool = False


class FactsFold:
    """Folds the conductor's and injector's records; `finish` returns the facts."""

    def __init__(self, plan: dict[str, Any], run: dict[str, Any]) -> None:
        self._plan = plan
        self._run = run
        self._phases: dict[str, float] = {}
        self._faults: dict[str, _Seen] = {}
        self._switches: list[float] = []
        self._focus: list[tuple[float, float | None]] = []
        self._clock_error = 0.0
        self.last = 0.0

    def feed(self, record: Record) -> None:
        """Fold one record of KINDS."""
        kind, t = record["k"], record["t"]
        if kind == "fault":
            self._fault(record)
        elif kind == "phase":
            self._phases.setdefault(record["name"], t)
        elif kind == "switch":
            self._switches.append(t)
        elif kind == "focus":
            self._mark(record["event"], t)
        else:
            self._clock_error = max(self._clock_error, record.get("error") or 0.0)

    def _mark(self, event: str, t: float) -> None:
        if event == "begin":
            self._focus.append((t, None))
        elif self._focus:
            self._focus[-1] = (self._focus[-1][0], t)

    def _fault(self, record: Record) -> None:
        event = record["event"]
        seen = self._faults.setdefault(record["id"], _Seen(record, record["t"]))
        if event == "inject":
            seen.record, seen.start = record, record["t"]
            seen.loses_data = bool(record.get("loses_data"))
            seen.closes_sockets = bool(record.get("closes_sockets"))
        elif event == "confirm":
            seen.confirmed = bool(record.get("evidence"))
        elif event == "heal":
            seen.end = record["t"]
        elif event == "confirm_heal":
            seen.healed = True
        if text := record.get("evidence") or record.get("text"):
            seen.evidence.append(f"{event}: {text}")

    def finish(self) -> RunFacts:
        """Return the facts; a load that never ended lasts until the last record."""
        scenario = self._plan["scenario"]
        start = self._phases.get("warmup", self._phases.get("load", 0.0))
        load_end = self._phases.get("quiesce", self.last)
        end = self._phases.get("collect", self._phases.get("teardown", self.last))
        faults = [self._fact(name, seen, end) for name, seen in self._faults.items()]
        boot = [fault for fault in faults if fault.window.end < start]
        absent = scenario.get("redis", {}).get("absent_at_boot_s", 0) > 0
        return RunFacts(
            bounds=default_bounds() | scenario.get("bounds", {}),
            enough=scenario.get("enough", {}),
            workers=int(self._run.get("workers") or scenario["workers"]),
            topology=scenario["topology"],
            load=Window(start, load_end),
            focus=tuple(Window(a, load_end if b is None else b) for a, b in self._focus),
            faults=tuple(fault for fault in faults if fault not in boot),
            boot=tuple(boot),
            switches=tuple(sorted(self._switches)),
            capabilities=frozenset(self._run.get("capabilities", ()))
            | frozenset(self._run.get("instruments", INSTRUMENTS)),
            clock_error=self._clock_error,
            end=end,
            planned=(
                *((BOOT,) if absent else ()),
                *(fault["id"] for fault in self._plan.get("faults", ())),
            ),
            processes=scenario.get("load", {}).get("processes", 1),
            parts=tuple((p["name"], p["start"], p["end"]) for p in self._plan.get("shape", ())),
            redis_addresses=tuple(self._run.get("redis_addresses") or ()),
            warm=start + scenario.get("warmup_s", 0.0),
            steady=_steady(self._plan.get("shape", ())),
        )

    def _fact(self, name: str, seen: _Seen, end: float) -> FaultFact:
        record = seen.record
        return FaultFact(
            id=name,
            kind=record.get("kind", ""),
            name=record.get("name") or name,
            target=str(record.get("target", "")),
            window=Window(seen.start, end if seen.end is None else seen.end),
            confirmed=seen.confirmed,
            healed=seen.healed,
            nodes=tuple(record.get("nodes") or ()),
            workers=tuple(record.get("workers") or ()),
            evidence="; ".join(seen.evidence),
            loses_data=seen.loses_data,
            closes_sockets=seen.closes_sockets,
        )
