"""`harness capacity`: fit given measurements, or sweep loads and workers and report."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from harness.catalogue import find_scenario
from harness.changes import parse_overrides
from harness.errors import UserError
from harness.options import RunOptions, fresh_seed
from harness.verdict import ExitCode

if TYPE_CHECKING:
    from harness.capacity.answers import DatabaseNeed
    from harness.capacity.report import Results
    from harness.capacity.sweep import Choices

CHOICES_FILE = "choices.json"


def fit(file: Path) -> int:
    """Fit the scalability law to a file of measurements and print it."""
    from harness.capacity import usl

    try:
        click.echo(usl.in_words(usl.fit(usl.read_points(file))))
    except UserError as error:
        said = str(error).removeprefix(f"{file}: ")
        raise UserError(f"--fit {file}: {said}") from None
    return ExitCode.AS_EXPECTED


def sweep(given: dict[str, Any], reports: Path, resume: Path | None) -> int:
    """Sweep, or go on with a sweep; report also after Ctrl-C, with what there is.

    `given` are the command line's choices, kept in the sweep's folder for `--resume`.
    """
    from harness.capacity.report import Results, write
    from harness.capacity.sweep import Sweep
    from harness.commands import end_on_sigterm

    folder = resume or reports / f"capacity-{time.strftime('%Y-%m-%dT%H-%M-%S')}"
    given = _saved(folder, given) if resume else given
    chosen = choices(given)
    target = target_of(chosen)
    need = database(given, target.database_pool)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CHOICES_FILE).write_bytes(orjson.dumps(given, option=orjson.OPT_INDENT_2))
    end_on_sigterm()
    say(chosen.cpus.words)
    running, interrupted = Sweep(chosen, folder, say), False
    try:
        running.run()
    except KeyboardInterrupt:
        interrupted = True
    results = Results(chosen, running, need, target.label, command_of(given), interrupted)
    return _finish(results, write(results) if running.points else None)


def _finish(results: Results, page: Path | None) -> int:
    """Print the recommendation and where the report is; return the exit code."""
    from harness.capacity import words
    from harness.capacity.report import answers

    if page is None:
        say("interrupted before the first point; nothing was measured")
        return results.exit_code
    for question, lines in answers(results):
        click.echo(f"\n{question}")
        for line in lines:
            click.echo(f"  {line}")
    click.echo(f"\n{results.recommendation}\n")
    if disturbed := words.foreign(results.series, results.choices.cpus):
        click.echo(disturbed, err=True)
    if results.incomplete:
        click.echo(f"Not whole: {results.incomplete}", err=True)
    if results.interrupted:
        again = shlex.join(["harness", "capacity", "--resume", str(results.sweep.folder)])
        click.echo(
            f"harness: interrupted; what was measured is kept; go on with: {again}", err=True
        )
    click.echo(f"Report: {page}")
    return results.exit_code


def choices(given: dict[str, Any]) -> Choices:
    """Return what to sweep; raise UserError for what cannot be."""
    from harness.capacity.cpus import plan_cpus
    from harness.capacity.objective import DEFAULT, Objective
    from harness.capacity.sweep import POINT_FILE, Choices

    workers = numbers(given.get("workers") or "1,2", "--workers")
    scenario = find_scenario(given["scenario"]) if given.get("scenario") else POINT_FILE
    failover = given.get("failover", 0.5)
    options = RunOptions(
        seed=given.get("seed", 0),
        target=given.get("target"),
        target_command=given.get("target_command"),
        overrides=parse_overrides(tuple(given.get("pairs", ()))),
    )
    _check(scenario, failover, options)
    return Choices(
        topologies=tuple(given.get("topologies") or ("standalone",)),
        workers=workers,
        loads=numbers(given["loads"], "--loads") if given.get("loads") else (),
        points=given.get("points", 8),
        seconds=given.get("seconds", 20.0),
        objective=Objective.parse(given.get("objective") or DEFAULT),
        cpus=plan_cpus(given.get("worker_cpus"), given.get("other_cpus"), max(workers)),
        scenario=scenario,
        failover=failover,
        options=options,
    )


def _check(scenario: Path, failover: float, options: RunOptions) -> None:
    """Raise UserError now for what would only be found after many minutes."""
    from harness.capacity.sweep import FAILOVER_FILE
    from harness.options import load_with_options

    if faults := load_with_options(scenario, options).faults:
        raise UserError(
            f"--scenario {scenario}: expected one without faults, got {len(faults)}; what a "
            "failover costs is measured apart (--failover)"
        )
    if failover:
        load_with_options(FAILOVER_FILE, options)


def database(given: dict[str, Any], default: tuple[int, int]) -> DatabaseNeed:
    """Return the pool arithmetic's numbers: the command line's, else the target's own."""
    from harness.capacity.answers import DatabaseNeed

    pool, overflow = given.get("pool_size"), given.get("pool_overflow")
    return DatabaseNeed(
        default[0] if pool is None else pool,
        default[1] if overflow is None else overflow,
        given.get("max_connections", 100),
    )


def target_of(chosen: Choices) -> Any:
    """Return the target that the sweep runs."""
    from harness.options import load_with_options
    from harness.targets import get_target

    name = load_with_options(chosen.scenario, chosen.options).target
    return get_target(name, chosen.options.target_command)


def numbers(text: str, option: str) -> tuple[int, ...]:
    """Return the whole numbers above 0 of a list like `1,2,4`; raise UserError."""
    try:
        found = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        found = ()
    if not found or min(found) < 1:
        raise UserError(f"{option} {text}: expected whole numbers above 0, such as 1,2,4")
    return found


def command_of(given: dict[str, Any]) -> str:
    """Return the command that sweeps again with the same choices."""
    words = ["harness", "capacity"]
    for key, value in given.items():
        option = _OPTIONS.get(key, "--" + key.replace("_", "-"))
        for item in value if isinstance(value, list) else [value]:
            if item is not None:
                words += [option, str(item)]
    return shlex.join(words)


_OPTIONS = {"topologies": "--topology", "pairs": "--set"}


def seed(given: int | None) -> int:
    """Return the seed of every plan; a fresh one when none was given."""
    return fresh_seed() if given is None else given


def _saved(folder: Path, known: Iterable[str]) -> dict[str, Any]:
    """Return the choices that a sweep was begun with; raise UserError when not all are there."""
    path = folder / CHOICES_FILE
    try:
        saved = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise UserError(
            f"--resume {folder}: expected the folder of a sweep, with a {CHOICES_FILE}; {error}"
        ) from error
    lacking = [name for name in known if not isinstance(saved, dict) or name not in saved]
    if lacking:  # points measured with other choices would be mixed
        raise UserError(
            f"--resume {folder}: {CHOICES_FILE} does not hold what the sweep was begun with: "
            f"expected all its choices, but {', '.join(lacking)} are missing; begin a new sweep"
        )
    return dict(saved)


def say(text: str) -> None:
    """Tell the progress, with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)
