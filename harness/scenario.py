"""The scenario file: what to deploy, what load, which faults, which guarantees. Data, no logic."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from harness.bug_specs import Bug, Side
from harness.changes import changed
from harness.errors import UserError, did_you_mean
from harness.fault_specs import FAULT_SPECS, Fault, Model, model_at
from harness.load_specs import PARTS, Load
from harness.neighbour_specs import Neighbour
from harness.scenario_checks import check_scenario
from harness.shape import Stretch, make_shape
from harness.telemetry_specs import Telemetry, switched
from harness.verdict import Verdict
from harness.yaml_text import read_yaml

TopologyName = Literal["standalone", "sentinel", "cluster"]
SIDES = ("fails", "passes")
BalancerName = Literal["none", "nginx"]
IMAGE = r"^[a-z0-9][\w./:@-]*$"


class Redis(Model):
    """How the Redis servers are set up. Times in ms, as Redis itself has them."""

    persistence: Literal["none", "aof"] = "none"
    down_after_ms: int = Field(1000, ge=100)
    node_timeout_ms: int = Field(1000, ge=100)
    config: dict[str, str] = Field({})
    auth: Literal["none", "password", "acl"] = "none"
    tls: Literal["none", "server", "mutual"] = "none"
    absent_at_boot_s: float = Field(0, ge=0, le=20)


class Images(Model):
    """Container images of the host `containers`."""

    redis: str = Field("redis-failover-harness/redis", pattern=IMAGE)
    toxiproxy: str | None = Field(None, pattern=IMAGE)  # None: a process
    nginx: str | None = Field(None, pattern=IMAGE)


class Focus(Model):
    """The load around faults: from `before_s` before a fault until `after_s` after its heal."""

    stops_per_s: float = Field(20, ge=0)
    sign_outs_per_s: float = Field(5, ge=0)
    canaries_per_s: float = Field(4, ge=0)
    config_changes_per_s: float = Field(0, ge=0)
    sign_in_bursts_per_s: float = Field(0, ge=0)
    model_refreshes_per_s: float = Field(0, ge=0)
    session_ends_per_s: float = Field(0, ge=0)
    visits_per_s: float = Field(0, ge=0)
    token_looks_per_s: float = Field(0, ge=0)
    stop_after_s: tuple[float, float] = (0.6, 1.4)
    hang_ups_per_s: float = Field(0, ge=0)
    task_lists_per_s: float = Field(0, ge=0)
    before_s: float = 2
    after_s: float = 10


class Scenario(Model):
    """One scenario file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    story: str = Field(min_length=20, description="what a user would see if it failed")
    topology: TopologyName
    workers: int = Field(3, ge=1, le=32)
    host: Literal["processes", "containers"] = "processes"
    images: Images = Images()
    balancer: BalancerName = "none"
    database: Literal["sqlite", "postgresql"] | None = None  # None: what the target takes
    redis: Redis = Redis()
    load: Load = Load()
    warmup_s: float = Field(2, ge=0)
    duration_s: float = Field(20, gt=0)
    faults: tuple[Fault, ...] = ()
    focus: Focus = Focus()
    telemetry: Telemetry | None = None
    neighbour: Neighbour | None = None
    enough: dict[str, float] = Field({})
    guarantees: tuple[str, ...] = ()  # empty means all
    bounds: dict[str, float] = Field({})
    expected: Verdict = Verdict.PASS
    expected_red: tuple[str, ...] = ()
    bug: Bug | None = None
    target: str = "runtime"
    environment: dict[str, str | None] = Field({})  # None: without that variable
    tags: tuple[str, ...] = ()

    @field_validator("telemetry", mode="before")
    @classmethod
    def _on_or_off(cls, value: Any) -> Any:
        return switched(value)

    @model_validator(mode="after")
    def _names_exist(self) -> Scenario:
        check_scenario(self)
        _ = self.load_shape  # raises when it is longer than the measured part
        return self

    @property
    def load_shape(self) -> tuple[Stretch, ...]:
        """Return how load changes over time, warm-up first."""
        return make_shape(self.load, self.warmup_s, self.duration_s)

    @property
    def used_images(self) -> dict[str, str]:
        """Return the image of each part that is to be a container; none on processes."""
        if self.host == "processes":
            return {}
        used = self.images.model_dump(exclude_none=True)
        if self.balancer == "none":
            used.pop("nginx", None)
        return used

    @property
    def needs_links(self) -> bool:
        """Tell whether a fault of the scenario works on network links."""
        return any(fault.kind in ("latency", "cut") for fault in self.faults)

    @property
    def needs_partitions(self) -> bool:
        """Tell whether a fault of the scenario cuts nodes off from each other."""
        return any(fault.kind == "partition" for fault in self.faults)


def load_scenario(path: Path) -> Scenario:
    """Read and validate a scenario file; raise UserError with file, line and nearest key."""
    try:
        data, text = read_yaml(path, "the scenario file")
    except UserError as error:
        if path.is_file():
            raise
        known = "`harness list` names the ones that come with the project"
        raise UserError(f"{error}. Expected a YAML file; {known}.") from error
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(data, dict):
        raise UserError(
            f"{path}: expected a mapping with `name`, `story`, `topology`, …; "
            f"got {type(data).__name__}"
        )
    try:
        scenario = Scenario.model_validate(data)
    except ValidationError as error:
        raise UserError(_explain(path, root, error)) from error
    _check_sides(path, root, scenario)
    return scenario


def _check_sides(path: Path, root: yaml.Node | None, scenario: Scenario) -> None:
    """Raise UserError for a side whose `set` does not fit the scenario."""
    sides = {} if scenario.bug is None else {n: getattr(scenario.bug, n) for n in SIDES}
    for name, number, side in ((n, i, s) for n, ss in sides.items() for i, s in enumerate(ss)):
        try:
            changed(scenario, {"target": side.target, **side.overrides})
        except UserError as error:
            line = _line_of(root, ["bug", name, number])
            raise UserError(f"{path}:{line}: bug.{name}.{number}: {error}") from None


def _explain(path: Path, root: yaml.Node | None, error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        location = _without_tag(problem["loc"])
        where = ".".join(str(part) for part in location) or "scenario"
        line = _line_of(root, location)
        lines.append(f"{path}:{line}: {where}: {_sentence(problem, location)}")
    return "\n".join(lines)


def _without_tag(location: tuple[Any, ...]) -> list[Any]:
    """Drop the fault's kind, which pydantic puts into the path of a tagged union."""
    return [p for i, p in enumerate(location) if not (i == 2 and location[0] == "faults")]


def _sentence(problem: Any, location: list[Any]) -> str:
    if problem["type"] == "extra_forbidden":
        return _unknown_key(str(location[-1]), problem["loc"])
    if problem["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return _unknown_kind(problem)
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] in ("value_error", "missing"):
        return str(message)
    return f"{message}; got {problem['input']!r}"


def _unknown_key(key: str, full: tuple[Any, ...]) -> str:
    known = _keys_at(full)
    return f"unknown key; {did_you_mean(key, known)}known: {', '.join(known)}"


def _unknown_kind(problem: Any) -> str:
    """Say which kinds of faults there are, for one without a kind or with an unknown one."""
    kind = str(problem.get("ctx", {}).get("tag", ""))
    said = f"unknown kind `{kind}`; {did_you_mean(kind, FAULT_SPECS)}" if kind else "no `kind`; "
    return f"{said}known: {', '.join(FAULT_SPECS)}"


def _keys_at(full: tuple[Any, ...]) -> list[str]:
    parts: dict[str, type[Model]] = {
        "images": Images,
        "redis": Redis,
        **PARTS,
        "focus": Focus,
        "telemetry": Telemetry,
        "neighbour": Neighbour,
        "bug": Bug,
        **dict.fromkeys(SIDES, Side),
        **FAULT_SPECS,
    }
    fields = model_at(Scenario, parts, full).model_fields
    return sorted(field.alias or name for name, field in fields.items())


def _line_of(root: yaml.Node | None, location: list[Any]) -> int:
    node, line = root, 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            pair = next((p for p in node.value if p[0].value == str(part)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            if part >= len(node.value):
                break
            node = node.value[part]
            line = node.start_mark.line + 1
    return line
