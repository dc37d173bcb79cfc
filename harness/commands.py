"""What the commands do: one function each, returning the exit code."""

from __future__ import annotations

import asyncio
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.catalogue import APART, SCENARIOS, find_run, find_scenario, scenario_files
from harness.changes import parse_overrides
from harness.errors import MissingPart, UserError
from harness.options import (
    RunOptions,
    RunResult,
    fresh_seed,
    load_with_options,
)
from harness.verdict import ExitCode, worst_exit

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from rich.console import Console
    from rich.table import Table

    from harness.ci.select import Chosen
    from harness.load.machines import Master
    from harness.progress import Progress
    from harness.targets.external.description import External, Flags
    from harness.traces.forward import ForwardTo


def options(
    seed: int | None = None,
    pairs: tuple[str, ...] = (),
    host: str | None = None,
    images: tuple[str, ...] = (),
    packages: tuple[str, ...] = (),
    flags: Flags | None = None,
    abort_on: str | None = None,
    master: bool = False,
    bind: str | None = None,
    expect_workers: int | None = None,
    subnet: str | None = None,
    otlp_forward: str | None = None,
    **choices: Any,
) -> RunOptions:
    """Return the command line's choices; a missing seed is drawn."""
    from harness.deploy.lease import valid_subnet
    from harness.environments.pins import single
    from harness.load.abort import Condition

    external, forward = _elsewhere(flags, otlp_forward, master, choices.get("target"))
    return RunOptions(
        seed=fresh_seed() if seed is None else seed,
        overrides={**_where(host, images), **parse_overrides(pairs)},
        pins=single(packages),
        external=external,
        forward=forward,
        abort_on=Condition.parse(abort_on) if abort_on else None,
        master=_master(master, bind, expect_workers, flags),
        subnet=valid_subnet(subnet) if subnet else None,
        **choices,
    )


def _master(
    asked: bool, bind: str | None, expected: int | None, flags: Flags | None
) -> Master | None:
    """Return where load machines connect, when they are asked for; raise UserError."""
    from harness.load.machines import LOOPBACK, Master

    if asked:
        return Master.parse(bind or LOOPBACK, expected or 1, flags.allow_host if flags else ())
    for flag, value in (("--bind", bind), ("--expect-workers", expected)):
        if value is not None:
            raise UserError(f"{flag} {value}: is about load from other machines; add --master")
    return None


def _elsewhere(
    flags: Flags | None, forward_to: str | None, machines: bool, target: str | None
) -> tuple[External | None, ForwardTo | None]:
    """Return the external deployment, and where spans go as well; raise UserError.

    `--allow-host` alone is not of an external target, but of load machines or of the collector.
    """
    from harness.targets.external.description import describe
    from harness.traces.forward import ForwardTo

    allowed = flags.allow_host if flags else ()
    forward = ForwardTo.parse(forward_to, allowed) if forward_to else None
    if (machines or forward) and flags and flags.only_allows:
        flags = None
    external = describe(flags, target) if flags else None
    if external and forward:
        raise UserError("--otlp-forward: where the spans of an external deployment go is its own")
    return external, forward


def _where(host: str | None, images: tuple[str, ...]) -> dict[str, Any]:
    """Return `--host` and `--image` as changes of the scenario; raise UserError."""
    from harness.scenario import Images

    changes: dict[str, Any] = {} if host is None else {"host": host}
    for pair in images:
        part, equals, image = pair.partition("=")
        if not equals or part not in Images.model_fields:
            raise UserError(
                f"--image {pair}: expected PART=IMAGE, such as --image redis=redis:7; "
                f"parts: {', '.join(Images.model_fields)}"
            )
        changes[f"images.{part}"] = image
    return changes


def print_plans(names: tuple[str, ...], chosen: RunOptions) -> int:
    """Print the plan of each scenario, byte for byte as a run would save it."""
    from harness.plan import make_plan

    for name in names:
        plan = make_plan(load_with_options(find_scenario(name), chosen), chosen.seed)
        click.echo(plan.to_json(), nl=False)
    return ExitCode.AS_EXPECTED


def run_scenarios(names: tuple[str, ...], chosen: RunOptions, quiet: bool = False) -> int:
    """Run scenarios in turn; return the worst exit code of those that ran, 4 when none did.

    All files are read first: a mistake in the last one must not cost the runs before it.
    """
    paths = [find_scenario(name) for name in names]
    scenarios = [load_with_options(path, chosen) for path in paths]
    end_on_sigterm()
    console = make_console()
    results = []
    for path, scenario in zip(paths, scenarios, strict=True):
        result = run_one(path, scenario.name, chosen, quiet)
        results.append((scenario.name, result))
        _print_result(console, scenario.name, result)
    if len(results) > 1:
        _print_totals(console, results)
    return worst_exit(result.exit_code for _, result in results if not result.skipped)


def run_one(path: Path, name: str, chosen: RunOptions, quiet: bool) -> RunResult:
    """Run a scenario file with its progress shown."""
    from harness.run import run_scenario

    return _shown(name, quiet, lambda progress: run_scenario(path, chosen, progress))


def _shown(
    name: str, quiet: bool, work: Callable[[Progress], Coroutine[Any, Any, RunResult]]
) -> RunResult:
    """Run something with its progress shown; a missing part makes it skipped."""
    from harness.progress import Progress, Silent

    try:
        with Silent() if quiet else Progress(name) as progress:
            return asyncio.run(work(progress))
    except MissingPart as error:
        return RunResult.skip(str(error))


def ci(tags: str, budget: str | None, shard: str, chosen: RunOptions) -> int:
    """Run the selected scenarios as one job; return the job's exit code."""
    import time

    from harness.ci.job import code_of_job, perform
    from harness.ci.report import write_job
    from harness.ci.select import Chosen, parse_budget, parse_shard, select

    wanted = [tag.strip() for tag in tags.split(",") if tag.strip()]
    files = scenario_files(None if wanted else SCENARIOS)
    everything = [Chosen(p, load_with_options(p, chosen)) for p in files.values()]
    selected = select(everything, wanted, parse_shard(shard))
    seconds = parse_budget(budget) if budget else None
    folder = chosen.reports / f"ci-{time.strftime('%Y-%m-%dT%H-%M-%S')}"
    end_on_sigterm()
    entries, console = [], make_console()
    run = partial(_run_chosen, chosen=chosen)
    for entry in perform(selected, run, time.monotonic, seconds):
        entries.append(entry)
        write_job(folder, entries)  # so that an interrupted job has one, too
        name = entry.chosen.scenario.name
        console.print(f"{entry.status:8} {name}  {entry.skipped}", markup=False, soft_wrap=True)
    if not entries:
        raise UserError(f"--shard {shard}: no scenario is in it; there are {len(everything)}")
    console.print(f"{folder / 'summary.md'}", markup=False, soft_wrap=True)
    return code_of_job(entries)


def _run_chosen(one: Chosen, chosen: RunOptions) -> RunResult:
    """Run one scenario of a job; one that does not start is red, and the others still run."""
    try:
        return run_one(one.path, one.scenario.name, chosen, quiet=False)
    except UserError as error:
        click.echo(f"harness: {one.scenario.name}: {error}", err=True)
        return RunResult(None, None, None, ExitCode.NOT_AS_EXPECTED)


def replay(name: str, reports: Path, same_nodes: bool, quiet: bool) -> int:
    """Run the plan of a saved run again; return its exit code."""
    from harness.replay import (
        recorded_aims,
        require_ours,
        saved_choices,
        saved_plan,
        saved_scenario,
    )
    from harness.run import run_plan

    run = find_run(name, reports)
    plan = saved_plan(run)
    require_ours(run, saved_scenario(run, plan))
    chosen = RunOptions(
        seed=plan.seed,
        reports=reports,
        **saved_choices(run),
        replay_of=run.root.name,
        aims=recorded_aims(run, plan) if same_nodes else {},
    )
    scenario = saved_scenario(run, plan)
    end_on_sigterm()
    result = _shown(scenario.name, quiet, lambda p: run_plan(scenario, plan, chosen, p))
    _print_result(make_console(), scenario.name, result)
    return result.exit_code


def _print_result(console: Console, name: str, result: RunResult) -> None:
    from harness.report.console import print_judgement

    if result.skipped:
        console.print(f"SKIPPED {name}: {result.skipped}", markup=False, soft_wrap=True)
    elif result.judgement is not None:
        report = result.run.root / "report.html" if result.run else None
        print_judgement(console, name, result.judgement, report)


def _print_totals(console: Console, results: list[tuple[str, RunResult]]) -> None:
    console.print()
    for name, result in results:
        if result.skipped:
            said = f"skipped: {result.skipped}"
        else:
            verdict = result.judgement.verdict if result.judgement else "no verdict"
            said = f"{verdict}, exit code {int(result.exit_code)}"
        console.print(f"{name:32} {said}", markup=False, highlight=False, soft_wrap=True)


def repeat(names: tuple[str, ...], times: int, chosen: RunOptions) -> int:
    """Run scenarios (else all) until each passed `times` in a row; 1 when one did not."""
    from harness.progress import Progress
    from harness.repeat import repeat as run_repeatedly

    paths = [find_scenario(name) for name in names] or list(scenario_files(SCENARIOS).values())
    end_on_sigterm()
    chosen.reports.mkdir(parents=True, exist_ok=True)
    with Progress("repeat") as progress:
        done = asyncio.run(run_repeatedly(paths, times, chosen, progress))
    return ExitCode.AS_EXPECTED if done else ExitCode.NOT_AS_EXPECTED


def until(budget: str | None) -> float:
    """Return when no further run begins, by time.monotonic(); raise UserError for no duration."""
    import time

    from harness.ci.select import parse_budget

    return time.monotonic() + parse_budget(budget) if budget else float("inf")


def end_on_sigterm() -> None:
    """Treat SIGTERM like Ctrl-C, so that a run cancelled by CI cleans up as well.

    A shell starts background jobs with Ctrl-C ignored; the handler makes it count again.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


def list_scenarios() -> int:
    """Print every scenario's name and the first sentence of its story, group by group."""
    if not scenario_files():
        raise UserError("no folder `scenarios` here; run this where the project was checked out")
    console = make_console()
    for group in (SCENARIOS, *APART):
        if files := scenario_files(group):
            console.print(f"{group}:", style="bold")
            console.print(_listed(files))
    return ExitCode.AS_EXPECTED


def _listed(files: dict[str, Path]) -> Table:
    from rich.table import Table

    from harness.scenario import load_scenario

    table = Table(box=None, pad_edge=False, show_header=False)
    for style in ("bold", ""):
        table.add_column(no_wrap=True, style=style)
    table.add_column()
    for name, path in files.items():
        try:
            scenario = load_scenario(path)
        except UserError as error:
            table.add_row(name, "invalid", str(error).splitlines()[0])
            continue
        table.add_row(name, scenario.topology, _first_sentence(scenario.story))
    return table


def _first_sentence(story: str) -> str:
    flat = " ".join(story.split())
    return flat.partition(". ")[0].removesuffix(".") + "."


def validate(names: tuple[str, ...]) -> int:
    """Check each file and print every mistake; 3 when there is one."""
    from harness.scenario import load_scenario

    mistakes = 0
    for name in names:
        try:
            path = find_scenario(name)
            load_scenario(path)
        except UserError as error:
            mistakes += 1
            click.echo(str(error), err=True)
        else:
            click.echo(f"{path}: valid")
    return ExitCode.USER_ERROR if mistakes else ExitCode.AS_EXPECTED


def check(name: str, reports: Path, timeout: float) -> int:
    """Judge a saved run again and write its reports anew."""
    from harness.checks.judge import judge_in_process
    from harness.report import write_reports
    from harness.report.console import print_judgement
    from harness.report.saved import SavedRun
    from harness.report.words import code_of

    run = find_run(name, reports)
    judgement = asyncio.run(judge_in_process(run, timeout))
    report = write_reports(run, judgement)
    print_judgement(make_console(), SavedRun.read(run).name, judgement, report)
    return code_of(judgement)


def doctor(given: dict[str, Any]) -> int:
    """Examine the deployment that was named, else this machine."""
    from harness.deploy.doctor import doctor as examine_machine
    from harness.doctor.command import Asked
    from harness.doctor.command import doctor as examine

    asked = Asked(**given)
    if asked.anything:
        return examine(asked)
    if named := [name for name, value in given.items() if value and name != "app"]:
        raise UserError(f"doctor: --{named[0].replace('_', '-')} needs --url, --env or --redis")
    return int(examine_machine())


def load_worker(master: str, allowed: tuple[str, ...]) -> int:
    """Do the load of a run on another machine; returns when that run is over."""
    import subprocess

    from harness.load.launch import load_environment
    from harness.load.machines import split_address

    host, port = split_address(master)
    argv = [sys.executable, "-m", "harness.load.remote", "--host", host, "--port", str(port)]
    argv += [word for name in allowed for word in ("--allow-host", name)]
    with subprocess.Popen(argv, env=load_environment()) as process:  # our own module
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.terminate()
            raise


def build_images(part: str) -> int:
    """Build the image of a part, or of all, and name what was made."""
    from harness.deploy.images import SETS, build

    for each in SETS.get(part, (part,)):
        click.echo(build(each))
    return ExitCode.AS_EXPECTED


def clean() -> int:
    """End what dead runs left behind."""
    from harness.deploy.clean import clean as sweep

    return int(sweep())


def make_console() -> Console:
    """Return the console for results: as wide as the terminal, 120 columns elsewhere."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 120
    return Console(file=sys.stdout, width=width, highlight=False)
