"""Seed → plan: the timed steps of a run, made before it starts. Same seed, same bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from harness.choices import Choices
from harness.scenario import Scenario
from harness.shape import Flow, Stretch, arrivals, lasting_users, make_shape, peak_users

Windows = tuple[tuple[float, float], ...]
STREAMS_OUTLIVE_S = 30.0  # a focus stream runs this long unless stopped: far beyond its stop


@dataclass(frozen=True)
class Step:
    """One step of the open-loop timetable, at load time `t`.

    do: `read` (who am I), `stop` (start a stream now, stop it from another worker soon after),
    `sign_out` (spare token number `k`), `config_change` (to value `k`), `sign_in_burst` (of an
    account of its own), `model_refresh` (to version `k` + 1), `session_end` (sign out while a slow
    request uses the session), `visit` (of guest `k`, who comes with a socket and goes),
    `token_look` (try a token again that was signed out before), `hang_up` (ask, and leave before
    the answer), `task_list` (all running tasks, as the admin).
    """

    t: float
    do: str
    user: int
    k: int


@dataclass(frozen=True)
class PlannedFault:
    """A fault of the scenario with its id and times in load seconds."""

    id: str
    at: float
    until: float
    spec: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """Everything that is decided before the run starts."""

    seed: int
    scenario: dict[str, Any]
    faults: tuple[PlannedFault, ...]
    focus: tuple[tuple[float, float], ...]
    timetable: tuple[Step, ...]
    shape: tuple[Stretch, ...] = ()

    @property
    def users(self) -> int:
        """Return how many users there are at most."""
        return peak_users(self.shape)

    def to_json(self) -> bytes:
        """Return the plan file's bytes."""
        options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS
        return orjson.dumps(asdict(self), option=options) + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Plan:
        """Read a plan file back."""
        raw = orjson.loads(data)
        return cls(
            seed=raw["seed"],
            scenario=raw["scenario"],
            faults=tuple(PlannedFault(**fault) for fault in raw["faults"]),
            focus=tuple((start, end) for start, end in raw["focus"]),
            timetable=tuple(Step(**step) for step in raw["timetable"]),
            shape=_saved_shape(raw),
        )


def make_plan(scenario: Scenario, seed: int) -> Plan:
    """Return the plan of a scenario. Load time 0 is the start of warm-up."""
    faults = tuple(
        PlannedFault(
            f"f{number}",
            scenario.warmup_s + fault.at,
            scenario.warmup_s + fault.ends,
            fault.model_dump(mode="json"),
        )
        for number, fault in enumerate(scenario.faults)
    )
    focus, shape = _focus(scenario, faults), scenario.load_shape
    timetable = sorted(
        _steps(scenario, seed, focus, shape), key=lambda step: (step.t, step.do, step.k)
    )
    fields = scenario.model_dump(mode="json")
    return Plan(seed, fields, faults, focus, tuple(timetable), shape)


def _saved_shape(raw: dict[str, Any]) -> tuple[Stretch, ...]:
    """Return the shape of a plan file; plans from before there were shapes have a constant one."""
    if "shape" in raw:
        return tuple(Stretch.of(each) for each in raw["shape"])
    scenario = Scenario.model_validate(raw["scenario"])
    return make_shape(scenario.load, scenario.warmup_s, scenario.duration_s)


def _steps(
    scenario: Scenario, seed: int, focus: Windows, shape: tuple[Stretch, ...]
) -> Iterator[Step]:
    """Yield the steps of every kind, each by a random stream of its own."""
    yield from _arrivals(seed, "read", [stretch.reads for stretch in shape], peak_users(shape))
    rates = scenario.focus
    kinds = {
        "stop": rates.stops_per_s,
        "sign_out": rates.sign_outs_per_s,
        "config_change": rates.config_changes_per_s,
        "sign_in_burst": rates.sign_in_bursts_per_s,
        "model_refresh": rates.model_refreshes_per_s,
        "session_end": rates.session_ends_per_s,
        "visit": rates.visits_per_s,
        "token_look": rates.token_looks_per_s,
        "hang_up": rates.hang_ups_per_s,
        "task_list": rates.task_lists_per_s,
    }
    lasting = lasting_users(shape)  # a stop needs its user's socket
    for do, rate in kinds.items():
        yield from _arrivals(seed, do, _flows(focus, rate), lasting)


def load_seconds(scenario: Scenario) -> float:
    """Return how long load runs: warm-up and measured part."""
    return scenario.warmup_s + scenario.duration_s


def _focus(scenario: Scenario, faults: tuple[PlannedFault, ...]) -> Windows:
    """Return merged focus windows; without faults the whole measured part is one."""
    end = load_seconds(scenario)
    if not faults:
        return ((scenario.warmup_s, end),)
    raw = sorted(
        (max(0.0, f.at - scenario.focus.before_s), min(end, f.until + scenario.focus.after_s))
        for f in faults
    )
    merged = [raw[0]]
    for start, stop in raw[1:]:
        if start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return tuple(merged)


def _flows(windows: Windows, rate: float) -> list[Flow]:
    return [Flow(start, end, rate, rate) for start, end in windows]


def _arrivals(seed: int, do: str, flows: Sequence[Flow], users: int) -> list[Step]:
    """Return arrivals with jitter inside each slot of the rate: open loop, absolute times."""
    choices = Choices(seed, f"arrivals-{do}")
    return [
        Step(round(t, 6), do, choices.below(users), k)
        for k, t in enumerate(arrivals(flows, choices))
    ]
