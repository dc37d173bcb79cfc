"""Baselines: the rounds of one side, saved as one JSON file that can be committed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from harness.compare.rounds import Round, RoundFold
from harness.errors import UserError
from harness.history.reader import HistoryError, read_history

FOLDER = "bench"  # under the reports
SCHEMA = 1


@dataclass(frozen=True)
class Baseline:
    """Rounds of one side. Two baselines with the same `session` were measured in turns.

    `side` says what ran, `scenario` under which load, `load` which load exactly (a checksum).
    """

    name: str
    scenario: str
    side: str
    session: str
    load: str
    rounds: tuple[Round, ...]

    @property
    def usable(self) -> tuple[Round, ...]:
        """Return the rounds that prove something."""
        return tuple(one for one in self.rounds if not one.unusable)

    def save(self, path: Path) -> None:
        """Write it; an earlier one of that name is replaced."""
        path.parent.mkdir(parents=True, exist_ok=True)
        data = {**self.__dict__, "rounds": [one.to_json() for one in self.rounds]}
        path.write_bytes(orjson.dumps({"schema": SCHEMA, **data}) + b"\n")


def path_of(name: str, reports: Path) -> Path:
    """Return where a baseline of that name is saved."""
    return reports / FOLDER / f"{name}.json"


def find_baseline(name: str, reports: Path) -> Baseline:
    """Return a baseline, given by path or name, or a saved run as a baseline of one round.

    Raises UserError with the names that there are.
    """
    for path in (Path(name), path_of(name, reports)):
        if path.is_file():
            return read_baseline(path)
    for root in (Path(name), reports / name):
        if (root / "plan.json").is_file():
            return of_run(root.resolve())
    saved = sorted(path.stem for path in (reports / FOLDER).glob("*.json"))
    raise UserError(
        f"no baseline `{name}`: neither a file, nor in {reports / FOLDER}, nor a saved run. "
        f"Baselines: {', '.join(saved) or 'none; `harness bench SCENARIO --save NAME` makes one'}"
    )


def read_baseline(path: Path) -> Baseline:
    """Read a file; raise UserError when it is not a baseline."""
    try:
        raw: dict[str, Any] = orjson.loads(path.read_bytes())
        if (found := raw.pop("schema")) != SCHEMA:
            raise UserError(f"{path}: expected schema {SCHEMA}, got {found}; measure it again")
        raw["rounds"] = tuple(Round.from_json(one) for one in raw["rounds"])
        return Baseline(**raw)
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: expected a file that `harness bench --save` made; "
            f"{type(error).__name__}: {error}"
        ) from error


def of_run(root: Path) -> Baseline:
    """Return a saved run as a baseline of one round; raise UserError when it is unreadable."""
    try:
        described: dict[str, Any] = orjson.loads((root / "plan.json").read_bytes())
        fold = RoundFold().feed(read_history(root / "history"))
    except (OSError, orjson.JSONDecodeError, HistoryError) as error:
        raise UserError(f"{root}: expected a saved run; {error}") from error
    scenario = described["scenario"]
    one = Round(0, (root / "plan.json").stat().st_mtime, root.name, **fold.finish())
    side = scenario.get("target", "runtime")
    return Baseline(root.name, scenario["name"], side, root.name, load_of(scenario), (one,))


def load_of(scenario: dict[str, Any]) -> str:
    """Return a checksum of what decides the load: two sides under different ones say nothing."""
    import hashlib

    keys = ("topology", "workers", "host", "balancer", "redis", "load", "warmup_s", "duration_s")
    decisive = {key: scenario.get(key) for key in (*keys, "faults", "focus")}
    text = orjson.dumps(decisive, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()[:12]
