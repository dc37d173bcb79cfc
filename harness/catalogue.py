"""Where scenario files and saved runs are found by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from harness.deploy.folder import RunFolder

REGRESSIONS = "regressions"
NEGATIVE = "negative"
SCENARIOS = "scenarios"
APART = (REGRESSIONS, NEGATIVE)  # folders whose scenarios run when they are asked for
SUFFIXES = (".yaml", ".yml")


def scenario_folders() -> list[Path]:
    """Return the folders searched for names: the current one's `scenarios`, then the project's."""
    folders = [Path("scenarios"), Path(__file__).resolve().parent.parent / "scenarios"]
    return [folder for folder in folders if folder.is_dir()]


def scenario_files(group: str | None = None) -> dict[str, Path]:
    """Return the scenario files of a group (else all) by name, sorted; the nearest folder wins."""
    found: dict[str, Path] = {}
    for folder in scenario_folders():
        for path in sorted(folder.rglob("*.y*ml")):
            if path.suffix in SUFFIXES and group in (None, _group(path, folder)):
                found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def _group(path: Path, folder: Path) -> str:
    """Return `regressions`, `negative`, or `scenarios` for all others."""
    first = path.relative_to(folder).parts[0]
    return first if first in APART else SCENARIOS


def find_scenario(name: str) -> Path:
    """Return the file of a scenario given by name or path; raise UserError naming the nearest."""
    path = Path(name)
    if path.suffix in SUFFIXES or path.is_file():
        return path
    known = scenario_files()
    group, _, stem = name.rpartition("/")
    if stem in known and (not group or group in (SCENARIOS, *known[stem].parts[-2:-1])):
        return known[stem]
    hint = did_you_mean(stem, known)
    names = "a name that `harness list` prints" if known else "a name from a folder `scenarios`"
    raise UserError(
        f"no such scenario `{name}`; {hint}expected the path of a YAML file, or {names}"
    )


def find_run(name: str, reports: Path) -> RunFolder:
    """Return a saved run, given by path or by its name under `reports` (`latest` is the newest)."""
    from harness.deploy.folder import RunFolder

    for root in (Path(name), reports / name):
        if (root / "plan.json").is_file():
            return RunFolder(root.resolve())
    saved = [
        p.parent.name for p in sorted(reports.glob("*/plan.json")) if not p.parent.is_symlink()
    ]
    raise UserError(
        f"no saved run `{name}`: neither {name} nor {reports / name} holds a plan.json. "
        f"Saved runs: {', '.join(saved[-8:]) or 'none; `harness run` makes one'}"
    )
