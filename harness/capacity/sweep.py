"""The sweep: a run at every point, each saved as soon as it is measured, and one failover."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from harness.capacity.cpus import CpuPlan, bound_to
from harness.capacity.loads import next_load
from harness.capacity.objective import Objective, find_knee
from harness.capacity.points import Key, Point, PointFold
from harness.checks.parts import unfit
from harness.errors import MissingPart, UserError
from harness.options import RunOptions, load_with_options
from harness.verdict import Verdict

if TYPE_CHECKING:
    from harness.options import RunResult

HERE = Path(__file__).parent
POINT_FILE = HERE / "point.yaml"
FAILOVER_FILE = HERE / "failover.yaml"
FULL = 0.92  # of a processor: beyond this the generator, not the workers, may set the pace
LATE_SHARE = 0.25  # of the objective: a generator later than this adds to every latency
OVERHEAD_S = 22.0  # of a run beside its load, until one has been timed
FAILOVER_S = 45.0
Say = Callable[[str], None]


@dataclass(frozen=True)
class Choices:
    """What to sweep.

    `loads` empty means that they are searched; `failover` is the share of the knee's load at which
    a failover is tried, 0 for none.
    """

    topologies: tuple[str, ...] = ("standalone",)
    workers: tuple[int, ...] = (1, 2)
    loads: tuple[int, ...] = ()
    points: int = 8
    seconds: float = 20.0
    objective: Objective = field(default_factory=Objective)
    cpus: CpuPlan = field(default_factory=CpuPlan)
    scenario: Path = POINT_FILE
    failover: float = 0.5
    options: RunOptions = field(default_factory=RunOptions)

    @property
    def per_series(self) -> int:
        """Return how many points a series has."""
        return len(self.loads) or self.points

    def series(self) -> Iterator[tuple[str, int]]:
        """Yield (topology, workers) of every series, in order."""
        yield from ((t, w) for t in self.topologies for w in self.workers)


class Sweep:
    """Measures what is missing of a sweep whose points are in `folder`/points.jsonl."""

    def __init__(self, choices: Choices, folder: Path, say: Say) -> None:
        self.choices = choices
        self.folder = folder
        self._say = say
        self._path = folder / "points.jsonl"
        self.points = read_points_file(self._path)
        self.failover = read_failover(folder)
        self._took: list[float] = []

    def run(self) -> None:
        """Measure every point that is missing, then the failover.

        Raises UserError or MissingPart when the first run does not work. What was measured is in
        `points` and on disk, also after KeyboardInterrupt.
        """
        with bound_to(self.choices.cpus.others):
            for topology, workers in self.choices.series():
                while (users := self._wanted(topology, workers)) is not None:
                    self._measure(Key(topology, workers, users))
            if self.choices.failover and self.failover is None:
                self._fail_over()

    def of(self, topology: str, workers: int) -> list[Point]:
        """Return the points of one series, by users."""
        mine = [p for p in self.points if (p.key.topology, p.key.workers) == (topology, workers)]
        return sorted(mine, key=lambda point: point.key)

    def _wanted(self, topology: str, workers: int) -> int | None:
        """Return the users of the next point of a series; None when it is complete."""
        done = self.of(topology, workers)
        if self.choices.loads:
            tried = {point.key.users for point in done}
            return next((users for users in self.choices.loads if users not in tried), None)
        if len(done) >= self.choices.points:
            return None
        return next_load(done, self.choices.objective)

    def _measure(self, key: Key) -> None:
        number = len(self.points) + 1
        total = self.choices.per_series * len(list(self.choices.series()))
        self._say(
            f"{key.topology}, {plural(key.workers, 'worker')}, {key.users} users "
            f"(point {number} of {total}; {self._left(total - number + 1)})"
        )
        began = time.monotonic()
        point = self._point(key)
        self._took.append(time.monotonic() - began)
        self.points.append(point)
        with self._path.open("ab") as file:
            file.write(orjson.dumps(point.to_json()) + b"\n")
        self._say("  " + told(point, self.choices.objective))

    def _left(self, points: int) -> str:
        """Return an estimate of the time left, from the runs so far."""
        each = self.choices.seconds + OVERHEAD_S
        if self._took:
            each = sum(self._took) / len(self._took)
        more = FAILOVER_S if self.choices.failover and self.failover is None else 0.0
        return f"about {max(1, round((points * each + more) / 60))} min left"

    def _point(self, key: Key) -> Point:
        try:
            result = self._run(self.choices.scenario, key, {"duration_s": self.choices.seconds})
        except UserError as error:
            if not self.points:
                raise  # nothing has worked yet: a mistake, not a limit
            return Point(key, unusable=f"the run did not begin: {str(error).splitlines()[0]}")
        return measured(key, result, self.choices)

    def _run(self, path: Path, key: Key, more: dict[str, Any]) -> RunResult:
        from harness.progress import Silent
        from harness.run import run_scenario

        options = self._options(path, key, more)
        result = asyncio.run(run_scenario(path, options, Silent()))
        if result.skipped:
            raise MissingPart(result.skipped)
        return result

    def _options(self, path: Path, key: Key, more: dict[str, Any]) -> RunOptions:
        """Return the options of one run: its size, and every rate in proportion to the users."""
        given = self.choices.options
        scenario = load_with_options(path, given)
        factor = key.users / scenario.load.users
        changes = {
            **given.overrides,
            "topology": key.topology,
            "workers": key.workers,
            "load.users": key.users,
            "load.reads_per_s": round(scenario.load.reads_per_s * factor, 3),
            "focus.stops_per_s": round(scenario.focus.stops_per_s * factor, 3),
            "focus.sign_outs_per_s": round(scenario.focus.sign_outs_per_s * factor, 3),
            **more,
        }
        return replace(
            given,
            overrides=changes,
            reports=self.folder / "runs",
            worker_cpus=self.choices.cpus.workers,
        )

    def _fail_over(self) -> None:
        key = failover_key(self.choices, self.points)
        if key is None:
            return
        self._say(f"failover: sentinel, {plural(key.workers, 'worker')}, {key.users} users")
        try:
            self.failover = failover_cost(key, self._run(FAILOVER_FILE, key, {}))
        except (UserError, MissingPart) as error:  # the points are worth a report without it
            self._say(f"  not measured: {error}")
            return
        (self.folder / "failover.json").write_bytes(orjson.dumps(self.failover))


def failover_key(choices: Choices, points: list[Point]) -> Key | None:
    """Return the size of the failover run: a share of the knee of the most workers measured.

    None when no series has a knee.
    """
    for topology, workers in sorted(choices.series(), key=lambda pair: -pair[1]):
        mine = [p for p in points if (p.key.topology, p.key.workers) == (topology, workers)]
        users = find_knee(mine, choices.objective).users
        if users is not None:
            return Key("sentinel", workers, max(1, round(choices.failover * users)))
    return None


def failover_cost(key: Key, result: RunResult) -> dict[str, Any]:
    """Return what the failover cost: seconds without a primary, deafness, errors, lost tokens."""
    from harness.history.reader import read_history

    assert result.run is not None
    assert result.judgement is not None
    found = {finding.name: finding.quantities for finding in result.judgement.findings}
    values = PointFold().feed(read_history(result.run.history)).finish()
    facts = result.judgement.facts
    began = min((fault.window.start for fault in facts.faults), default=None) if facts else None
    switches = [t for t in facts.switches if began is None or t >= began] if facts else []
    return {
        "workers": key.workers,
        "users": key.users,
        "verdict": str(result.judgement.verdict),
        "switch_s": round(switches[0] - began, 3) if switches and began is not None else None,
        "deaf_s": found.get("deaf-time", {}).get("deaf_s_max"),
        "recovery_s": found.get("recovery", {}).get("last_failure_after_switch_s"),
        "tokens_lost": found.get("tokens-exactly-once-in-order", {}).get("lost"),
        "connections": found.get("connections-bounded-and-back", {}).get("peak"),
        "run": result.run.root.name,
        **{name: values[name] for name in ("operations", "errors", "latency_ms")},
    }


def measured(key: Key, result: RunResult, choices: Choices) -> Point:
    """Return the point that a run measured."""
    from harness.history.reader import read_history

    assert result.run is not None
    assert result.judgement is not None
    values = PointFold().feed(read_history(result.run.history)).finish()
    findings = result.judgement.findings
    broken = [f.name for f in findings if f.applicable and f.verdict is Verdict.FAIL]
    point = Point(key, **values, broken=tuple(broken), run=result.run.root.name)
    return replace(point, unusable=unfit(findings) or bottleneck(point, choices))


def bottleneck(point: Point, choices: Choices) -> str:
    """Return why the generator's side, not the workers, set the pace; empty when it did not."""
    if not point.operations:
        return "no operation ended in the measured part"
    if point.sockets < 0.98 * point.key.users:
        return f"only {point.sockets} of {point.key.users} sockets were open"
    if point.load_cpu >= FULL:
        return f"a load process used {100 * point.load_cpu:.0f} % of its processor"
    if choices.cpus.split and point.other_cpu >= FULL * choices.cpus.for_others:
        return (
            f"generator, Redis and provider used {point.other_cpu:.2f} of their "
            f"{choices.cpus.for_others} processors"
        )
    if point.late_ms > LATE_SHARE * choices.objective.latency_ms:
        return f"the generator began its operations {point.late_ms:.0f} ms late"
    return ""


def told(point: Point, objective: Objective) -> str:
    """Return a point in one line."""
    if not point.operations:
        return f"not used: {point.unusable}"
    took = point.latency_ms[objective.quantile]
    said = f"{point.operations_per_s:.0f} operations/s, {objective.quantile} {took:.0f} ms: "
    if point.unusable:
        return said + f"not used, the generator was the bottleneck: {point.unusable}"
    missed = objective.missed(point)
    return said + (f"missed ({missed})" if missed else "met")


def plural(count: int, word: str) -> str:
    """Return a count with its word."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def read_points_file(path: Path) -> list[Point]:
    """Return the points that were measured before; a last line that was cut is left out."""
    if not path.exists():
        return []
    lines = path.read_bytes().splitlines(keepends=True)
    return [Point.from_json(orjson.loads(line)) for line in lines if line.endswith(b"\n")]


def read_failover(folder: Path) -> dict[str, Any] | None:
    """Return the failover that was measured before, if any."""
    path = folder / "failover.json"
    return orjson.loads(path.read_bytes()) if path.exists() else None
