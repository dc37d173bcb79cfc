"""The command line. Every command calls one function; imports are late so that help is fast."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from harness.cli_external import external_options
from harness.errors import MissingPart, UserError, unwritable
from harness.verdict import EXIT_CODES, ExitCode

REPORTS = click.option(
    "--reports",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("reports"),
    show_default=True,
    help="Folder of saved runs.",
)
TARGET = click.option(
    "--target",
    metavar="NAME[==V]",
    help="What is tested: runtime, stock, open-webui==V, external. Else the scenario's own.",
)
WITH = click.option(
    "--with",
    "packages",
    multiple=True,
    metavar="NAME==V[,V…]",
    help="Run the workers with this version of a package.",
)


HOST = click.option(
    "--host", type=click.Choice(("processes", "containers")), help="Where Redis runs (host)."
)
GATE = click.option(
    "--gate", type=float, default=1.25, show_default=True, help="What may not get worse by more."
)
IMAGE = click.option(
    "--image", "images", multiple=True, metavar="PART=IMAGE", help="Of redis, toxiproxy, nginx."
)


IMAGES = (
    *("redis", "toxiproxy", "nginx", "postgres", "python", "runtime", "harness"),
    *("all", "compose"),
)
ALLOW_HOST = click.option(
    "--allow-host", multiple=True, metavar="HOST", help="An address of ours that is not loopback."
)


class _Commands(click.Group):
    """Lists commands in the order of use, and the exit codes below them."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(f"\n{EXIT_CODES}")


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Prove that a multi-worker web app survives Redis failing.

    Starts a real deployment, loads it, breaks Redis or the network, records every operation, and
    judges the record.
    """


@cli.command()
@click.argument("scenarios", nargs=-1, required=True, metavar="SCENARIO…")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of the plan; else a fresh one.")
@click.option("--workers", type=click.IntRange(1, 32), help="Number of workers.")
@click.option("--users", type=click.IntRange(min=1), help="Number of users (load.users).")
@click.option("--processes", type=click.IntRange(min=1), help="Load processes (load.processes).")
@HOST
@IMAGE
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="Change any key.")
@TARGET
@WITH
@click.option("--target-command", metavar="CMD", help="Starts a worker instead of the runtime.")
@click.option("--master", is_flag=True, help="Load comes from machines that connect.")
@click.option("--expect-workers", type=click.IntRange(min=1), help="How many do (1).")
@click.option("--bind", metavar="HOST[:PORT]", help="Where they connect (127.0.0.1).")
@click.option("--keep-data", is_flag=True, help="Keep Redis and database files.")
@click.option("--subnet", metavar="127.X.Y", help="Lease this loopback /24, else any free one.")
@external_options
@click.option("--otlp-forward", metavar="URL", help="Send the spans on to this collector too.")
@click.option("--abort-on", metavar="COND", help="End the load early, as on 'errors>5%'.")
@click.option("--plan-only", is_flag=True, help="Print the plan as JSON and stop.")
@click.option("--quiet", is_flag=True, help="Say only the end.")
@REPORTS
def run(scenarios: tuple[str, ...], plan_only: bool, quiet: bool, **choices: Any) -> int:
    """Run scenarios, given by name or file, one after the other."""
    from harness import commands

    options = commands.options(**choices)
    if plan_only:
        return commands.print_plans(scenarios, options)
    return commands.run_scenarios(scenarios, options, quiet)


@cli.command()
@click.option("--tags", default="", metavar="TAG,…", help="Only scenarios with one of these tags.")
@click.option("--budget", metavar="DURATION", help="Begin none that would end later, as in 10m.")
@click.option("--shard", default="1/1", metavar="I/N", help="Part I of N of the scenarios.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of every plan; else a fresh one.")
@HOST
@IMAGE
@click.option("--target-command", metavar="CMD", help="Starts a worker instead of the runtime.")
@REPORTS
def ci(tags: str, budget: str | None, shard: str, **choices: Any) -> int:
    """Run all scenarios as one job, with one JUnit file and one summary.

    A red scenario is run once more; when it is not red again it is flaky, never green.
    """
    from harness import commands

    return commands.ci(tags, budget, shard, commands.options(**choices))


@cli.command()
@click.option(
    "--topology",
    "topologies",
    multiple=True,
    type=click.Choice(("standalone", "sentinel", "cluster")),
    help="Sweep this one; may be given several times. Default: standalone.",
)
@click.option("--workers", metavar="N,…", help="Numbers of workers. Default: 1,2.")
@click.option("--loads", metavar="N,…", help="Numbers of users, else the knee is searched.")
@click.option("--points", type=click.IntRange(1, 100), default=8, help="Loads of a search.")
@click.option("--seconds", type=click.FloatRange(1), default=20.0, help="Measured part of a point.")
@click.option("--objective", metavar="P95=MS,ERRORS=%", help="Default: p95=300ms,errors=0.1%.")
@click.option("--worker-cpus", metavar="LIST", help="Processors of the workers, as in 0-3.")
@click.option("--other-cpus", metavar="LIST", help="Processors of generator, Redis and the rest.")
@click.option(
    "--failover", type=click.FloatRange(0, 1), default=0.5, help="Share of the knee; 0: no."
)
@click.option("--pool-size", type=click.IntRange(min=0), help="Database pool of a worker.")
@click.option("--pool-overflow", type=click.IntRange(min=0), help="What the pool may grow by.")
@click.option("--max-connections", type=click.IntRange(min=1), default=100, help="Of the database.")
@click.option("--scenario", metavar="SCENARIO", help="Other users than the built-in ones.")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="Change any key.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of every plan; else a fresh one.")
@TARGET
@click.option("--target-command", metavar="CMD", help="Starts a worker instead of the runtime.")
@click.option(
    "--resume", type=click.Path(path_type=Path), metavar="DIR", help="Go on with this sweep."
)
@click.option(
    "--fit",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE.csv",
    help="Only fit measurements with the header concurrency,throughput.",
)
@REPORTS
def capacity(file: Path | None, resume: Path | None, reports: Path, **given: Any) -> int:
    """Find how many users a deployment carries, and what it needs.

    Runs at many loads and numbers of workers, finds the knee for a latency objective, fits the
    Universal Scalability Law, and writes capacity.html and capacity.json.
    """
    from harness import commands_capacity

    if file is not None:
        return commands_capacity.fit(file)
    given = given | {"seed": commands_capacity.seed(given["seed"])}
    return commands_capacity.sweep(given, reports, resume)


@cli.command()
@click.argument("scenario", metavar="SCENARIO")
@click.option("--save", "name", required=True, metavar="NAME", help="Name of the baseline.")
@click.option(
    "--against", metavar="WHAT", help="Measure this in turns with it: target, NAME==V or commit."
)
@click.option("--rounds", type=click.IntRange(min=1), default=12, show_default=True)
@GATE
@click.option(
    "--seed", type=click.IntRange(min=0), help="Seed of the first plan; else a fresh one."
)
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="Change any key.")
@TARGET
@WITH
@click.option("--target-command", metavar="CMD", help="Starts a worker instead of the runtime.")
@REPORTS
def bench(
    scenario: str, name: str, against: str | None, rounds: int, gate: float, **choices: Any
) -> int:
    """Measure rounds of a scenario and save them as a baseline.

    With --against, two sides are measured in turns and compared at once: what is on the command
    line against a target (`stock`, `open-webui==V`), another version of a package, a commit of
    this checkout, or `command:CMD`. Its baseline is saved as NAME-against.
    """
    from harness import commands, commands_compare

    chosen = commands.options(**choices)
    return commands_compare.bench(scenario, name, against, rounds, gate, chosen)


@cli.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@GATE
@REPORTS
def compare(a: str, b: str, gate: float, reports: Path) -> int:
    """Say what is better or worse in B than in A, and how certain that is.

    A and B are baselines (`harness bench`), their files, or saved runs. 0: nothing is worse beyond
    the gate. 1: something is. 2: that could not have been seen.
    """
    from harness import commands_compare

    return commands_compare.compare(a, b, gate, reports)


@cli.command()
@click.argument("run", metavar="RUN")
@click.option("--same-nodes", is_flag=True, help="Hit the recorded nodes, not the roles.")
@click.option("--quiet", is_flag=True, help="Say only the end.")
@REPORTS
def replay(run: str, same_nodes: bool, quiet: bool, reports: Path) -> int:
    """Run the plan of a saved run again.

    RUN is a folder, a name among the reports, or `latest`.
    """
    from harness import commands

    return commands.replay(run, reports, same_nodes, quiet)


@cli.command()
@click.argument("scenarios", nargs=-1, metavar="[SCENARIO…]")
@click.option("--times", type=click.IntRange(min=1), default=10, show_default=True)
@HOST
@IMAGE
@click.option("--keep-data", is_flag=True, help="Keep Redis and database files.")
@REPORTS
def repeat(scenarios: tuple[str, ...], times: int, **choices: Any) -> int:
    """Run until every scenario passed so often in a row.

    All scenarios when none is named. Counts are kept in repeat.jsonl among the reports.
    """
    from harness import commands

    return commands.repeat(scenarios, times, commands.options(**choices))


@cli.command()
@click.argument("scenario", metavar="SCENARIO")
@WITH
@click.option("--target", "targets", multiple=True, metavar="NAME[==V,…]", help="What is tested.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of every plan; else a fresh one.")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="Change any key.")
@REPORTS
def matrix(
    scenario: str, packages: tuple[str, ...], targets: tuple[str, ...], **choices: Any
) -> int:
    """Run a scenario with every combination of versions.

    Prints a table of verdicts; all runs have the same plan.
    """
    from harness import commands_versions

    return commands_versions.matrix(scenario, packages, targets, choices)


@cli.command()
@click.argument("scenario", metavar="SCENARIO")
@click.option("--package", required=True, metavar="NAME", help="The package that is searched.")
@click.option("--good", required=True, metavar="V", help="An older version that passes.")
@click.option("--bad", required=True, metavar="V", help="A newer version that fails.")
@TARGET
@click.option("--seed", type=click.IntRange(min=0), help="Seed of every plan; else a fresh one.")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="Change any key.")
@REPORTS
def bisect(scenario: str, package: str, good: str, bad: str, **choices: Any) -> int:
    """Find the first release of a package with which a scenario fails."""
    from harness import commands_versions

    return commands_versions.bisect(scenario, package, good, bad, choices)


@cli.command()
@click.argument("bug", metavar="BUG")
@click.option("--repeat", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--side",
    "which",
    type=click.Choice(("fails", "passes", "both")),
    default="both",
    show_default=True,
    help="Only where it fails, or only where it passes.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), help="Seed of the first plan; else a fresh one."
)
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="Change any key.")
@click.option("--quiet", is_flag=True, help="Say only what each run showed.")
@REPORTS
def reproduce(bug: str, repeat: int, which: str, quiet: bool, **choices: Any) -> int:
    """Show a real bug where it fails and where it passes.

    BUG is a slug (`harness list`) or the number of an issue that it cites, as in 4098 or
    redis/redis-py#4098. 0: red in at least 80 % of the runs where it fails, and green in all
    where it passes. Every run is added to track-record.json among the reports.
    """
    from harness import commands_bugs

    return commands_bugs.reproduce(bug, repeat, which, quiet, choices)


@cli.command()
@click.argument("bugs", nargs=-1, metavar="[BUG…]")
@click.option(
    "--repeat", type=click.IntRange(min=0), default=10, show_default=True, help="Runs of each side."
)
@click.option("--budget", metavar="DURATION", help="Begin none that would end later, as in 30m.")
@click.option("--quiet", is_flag=True, help="Say only what each run showed.")
@REPORTS
def catalogue(
    bugs: tuple[str, ...], repeat: int, budget: str | None, quiet: bool, **choices: Any
) -> int:
    """Gather the track record: the sides of all bugs with the fewest runs first.

    Writes the table of the README and the list in docs/bugs.md; --repeat 0 only writes them.
    """
    from harness import commands_bugs

    return commands_bugs.catalogue(bugs, repeat, budget, quiet, choices)


@cli.command("list")
def list_() -> int:
    """List the scenarios that can be run by name."""
    from harness import commands

    return commands.list_scenarios()


@cli.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
def validate(files: tuple[str, ...]) -> int:
    """Check scenario files without running them."""
    from harness import commands

    return commands.validate(files)


@cli.command()
@click.argument("run", metavar="RUN")
@click.option("--timeout", default=120.0, show_default=True, help="Seconds the checks may take.")
@REPORTS
def check(run: str, timeout: float, reports: Path) -> int:
    """Judge a saved run again and report anew.

    RUN is a folder, a name among the reports, or `latest`.
    """
    from harness import commands

    return commands.check(run, reports, timeout)


@cli.group(cls=_Commands)
def images() -> None:
    """Container images for `--host containers` and for deploy/compose."""


@images.command()
@click.argument("part", type=click.Choice(IMAGES), default="redis")
def build(part: str) -> int:
    """Make an image from this machine's programs, without a registry.

    PART is redis unless given: the one that `--host containers` cannot do without. `all` are redis,
    toxiproxy and nginx; `compose` is what the files of deploy/compose start.
    """
    from harness import commands

    return commands.build_images(part)


@cli.command("load-worker")
@click.option("--master", required=True, metavar="HOST[:PORT]", help="Where the run listens.")
@ALLOW_HOST
def load_worker(master: str, allow_host: tuple[str, ...]) -> int:
    """Do the load of a run on another machine (`run --master`)."""
    from harness import commands

    return commands.load_worker(master, allow_host)


@cli.command()
@click.option(
    "--url", "--target", "urls", multiple=True, metavar="URL", help="Of each replica, or of one."
)
@click.option("--admin", default="", metavar="EMAIL", help="Signs in; HARNESS_ADMIN_PASSWORD.")
@click.option(
    "--env",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="NAME=value lines of each replica.",
)
@click.option("--redis", multiple=True, metavar="URL", help="A Redis to look at without a file.")
@click.option("--origin", default="", metavar="URL", help="The address that users' browsers show.")
@click.option(
    "--app",
    type=click.Choice(("runtime", "open-webui")),
    default="runtime",
    show_default=True,
    help="Whose defaults count.",
)
@click.option("--replicas", type=click.IntRange(min=0), default=0, help="If not one per file.")
@click.option("--offline", is_flag=True, help="Look at the files alone.")
@click.option("--allow-host", multiple=True, metavar="HOST", help="May be asked, if not local.")
@click.option("--json", is_flag=True, help="Print the findings as JSON.")
def doctor(**given: Any) -> int:
    """Say what is wrong with a deployment, before any load; 1 when there is something.

    Without flags: which parts of the harness are installed here, and how to get the rest.
    """
    from harness import commands

    return commands.doctor(given)


@cli.command()
def clean() -> int:
    """End what dead runs left behind."""
    from harness import commands

    return commands.clean()


@cli.command()
def version() -> int:
    """Print the version."""
    from importlib.metadata import version as version_of

    click.echo(version_of("redis-failover-harness"))
    return ExitCode.AS_EXPECTED


def invoke(arguments: Sequence[str] | None = None, command: click.Command = cli) -> int:
    """Run a command line and return its exit code; no error leaves as a traceback."""
    name = "harness" if command is cli else None
    try:
        return int(command.main(args=arguments, prog_name=name, standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()  # click's own exit code for these is 2, which here means unknown
        return ExitCode.USER_ERROR
    except UserError as error:
        return _say(str(error), ExitCode.USER_ERROR)
    except MissingPart as error:
        return _say(str(error), ExitCode.MISSING_PART)
    except (KeyboardInterrupt, click.Abort):
        return _say("interrupted; what was started has been ended", ExitCode.INTERRUPTED)
    except BrokenPipeError:
        sys.stdout = None  # its reader left
        return ExitCode.AS_EXPECTED
    except OSError as error:
        if (said := unwritable(error)) is None:
            return _say(_logged(error), ExitCode.UNKNOWN)
        return _say(said, ExitCode.USER_ERROR)
    except Exception as error:  # the last line of defence
        return _say(_logged(error), ExitCode.UNKNOWN)


def main() -> None:
    """Run as a program."""
    sys.exit(invoke())


def _say(text: str, code: ExitCode) -> int:
    click.echo(f"harness: {text}", err=True)
    return code


def _logged(error: Exception) -> str:
    """Save the traceback of an error nobody foresaw; return the line that says where."""
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile(
        "w", prefix="harness-crash-", suffix=".log", delete=False, encoding="utf-8"
    ) as log:
        traceback.print_exception(error, file=log)
    said = f"{type(error).__name__}: {error}".splitlines()[0]
    return f"a fault of the harness itself: {said}. Please report it with {log.name}"
