"""What a check is: a fold over the history that ends in a finding with quantities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

from harness.history.records import Record
from harness.verdict import Verdict

WORKER_FAULTS = frozenset({"worker-kill", "worker-stop", "worker-pause"})


@dataclass(frozen=True)
class Window:
    """A stretch of run time, in seconds since the run's base."""

    start: float
    end: float

    def __contains__(self, t: float) -> bool:
        return self.start <= t <= self.end

    def overlaps(self, start: float, end: float) -> bool:
        """Tell whether [start, end] touches the window."""
        return start <= self.end and end >= self.start


@dataclass(frozen=True)
class FaultFact:
    """One fault as it happened: when injected, confirmed, healed, and on what."""

    id: str
    kind: str
    name: str
    target: str
    window: Window  # inject … heal (or the end of load)
    confirmed: bool
    healed: bool
    nodes: tuple[str, ...] = ()
    workers: tuple[int, ...] = ()
    evidence: str = ""
    loses_data: bool = False  # a restart empty: acknowledged Redis data is gone by design
    closes_sockets: bool = False  # of its workers, or of all when it names none

    def closes(self, worker: int) -> bool:
        """Tell whether it closes the sockets of this worker by design."""
        return self.closes_sockets and (not self.workers or worker in self.workers)


@dataclass(frozen=True)
class Facts:
    """What checks need to know about a run besides the records they fold."""

    bounds: dict[str, float]
    enough: dict[str, float]
    workers: int
    topology: str
    load: Window
    focus: tuple[Window, ...] = ()
    faults: tuple[FaultFact, ...] = ()
    switches: tuple[float, ...] = ()
    capabilities: frozenset[str] = frozenset()
    clock_error: float = 0.0

    def fault_over(self, start: float, end: float) -> FaultFact | None:
        """Return the first fault whose window touches [start, end]."""
        return next((f for f in self.faults if f.window.overlaps(start, end)), None)

    def killed(self, worker: int, t: float) -> bool:
        """Tell whether a fault holds this worker dead at `t`."""
        return self.ruled(frozenset({"worker-kill"}), worker, t, t)

    def away(self, worker: int, start: float, end: float) -> bool:
        """Tell whether a fault holds this worker dead, ending or stopped in [start, end]."""
        return self.ruled(WORKER_FAULTS, worker, start, end)

    def ruled(self, kinds: frozenset[str], worker: int, start: float, end: float) -> bool:
        """Tell whether a fault of these kinds is on this worker in some of [start, end]."""
        found = (f for f in self.faults if f.kind in kinds and worker in f.workers)
        return any(fault.window.overlaps(start, end) for fault in found)

    def due_by(self, since: float, bound: float) -> float:
        """Return when what began at `since` must be over, `bound` later.

        A fault that it meets until then delays it: the bound counts from the last heal.
        """
        return self.delayed(since, since + bound, bound) + self.clock_error

    def delayed(self, since: float, due: float, again: float) -> float:
        """Return `due`, or `again` seconds after the last heal of the faults met until then.

        While that time counts from a heal, it stands still during another fault.
        """
        met = [f.window for f in self.faults if f.window.overlaps(since, due)]
        reached = max((window.end for window in met), default=due)
        due = max(due, reached + again) if met else due
        later = (f.window for f in self.faults if f.window.start > reached)
        for window in sorted(later, key=lambda window: window.start) if met else ():
            if window.start <= due:
                due += max(0.0, window.end - max(window.start, reached))
                reached = max(reached, window.end)
        return due


@dataclass
class Example:
    """One of the worst cases: a sentence and the operations or records that prove it."""

    text: str
    t: float
    operations: list[str] = field(default_factory=list)


@dataclass
class Finding:
    """The result of one guarantee."""

    name: str
    family: str
    sentence: str
    verdict: Verdict
    quantities: dict[str, Any] = field(default_factory=dict)
    bound: str = ""
    reason: str = ""  # why not pass; empty on pass
    examples: list[Example] = field(default_factory=list)
    applicable: bool = True


class Check(ABC):
    """One guarantee. `feed` sees every record in time order, once; `judge` is called at the end."""

    name: ClassVar[str]
    family: ClassVar[str]
    sentence: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    kinds: ClassVar[frozenset[str]] = frozenset()  # record kinds to be fed; empty means all

    @abstractmethod
    def feed(self, record: Record) -> None:
        """Fold one record."""

    @abstractmethod
    def judge(self, facts: Facts) -> Finding:
        """Return the finding; never pass on thin evidence."""

    def finding(self, verdict: Verdict, **fields: Any) -> Finding:
        """Return a finding with this guarantee's name, family and sentence filled in."""
        return Finding(self.name, self.family, self.sentence, verdict, **fields)
