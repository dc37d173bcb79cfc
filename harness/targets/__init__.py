"""Systems under test: what starts them, what they offer. `get_target` finds one by name."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable

from harness.environments.pins import single
from harness.errors import UserError, did_you_mean
from harness.targets.base import Target
from harness.targets.open_webui import OpenWebUITarget
from harness.targets.runtime import RuntimeTarget
from harness.targets.stock import StockTarget

TARGETS: dict[str, Callable[[], Target]] = {
    RuntimeTarget.name: RuntimeTarget,
    StockTarget.name: StockTarget,
}
VERSIONED: dict[str, Callable[[str], Target]] = {OpenWebUITarget.name: OpenWebUITarget}


def target_names() -> list[str]:
    """Return the names of all targets."""
    return sorted([*TARGETS, *(f"{name}==VERSION" for name in VERSIONED), "external"])


def get_target(name: str = RuntimeTarget.name, command: str | None = None) -> Target:
    """Return a target; `command` replaces the start of its command line (`--target-command`).

    Raises UserError for an unknown name and for a command that cannot be started.
    """
    base = name.partition("=")[0]
    if base not in TARGETS and base not in VERSIONED:
        hint = did_you_mean(base, [*TARGETS, *VERSIONED])
        raise UserError(f"no such target `{name}`; {hint}known: {', '.join(target_names())}")
    if base in TARGETS and name != base:
        raise UserError(f"--target {name}: `{base}` is the one of this project, without a version")
    if command is not None and name != RuntimeTarget.name:
        raise UserError(f"--target-command replaces the command of `runtime`, not of `{name}`")
    if base in VERSIONED:
        return VERSIONED[base](parse_version(name))
    return RuntimeTarget(_split(command)) if command is not None else TARGETS[name]()


def parse_version(name: str) -> str:
    """Return the version of `open-webui==0.12.4`; raise UserError without one."""
    return single([name], "--target")[0].version


def _split(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UserError(f"--target-command {command!r}: not a shell command: {error}") from error
    if not words:
        raise UserError(
            "--target-command is empty; expected a command that takes the options of "
            "`runtime serve`, such as `python -m tests.mutants.stop_by_pubsub`"
        )
    if words[0] != "python" and shutil.which(words[0]) is None:
        raise UserError(
            f"--target-command {command!r}: `{words[0]}` is not an executable file and not on PATH"
        )
    return words
