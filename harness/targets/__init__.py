"""Systems under test: what starts them, what they offer. `get_target` finds one by name."""

from __future__ import annotations

import difflib
import shlex
import shutil
from collections.abc import Callable

from harness.errors import UserError
from harness.targets.base import Target
from harness.targets.runtime import RuntimeTarget
from harness.targets.stock import StockTarget

TARGETS: dict[str, Callable[[], Target]] = {
    RuntimeTarget.name: RuntimeTarget,
    StockTarget.name: StockTarget,
}


def target_names() -> list[str]:
    """Return the names of all targets."""
    return sorted(TARGETS)


def get_target(name: str = RuntimeTarget.name, command: str | None = None) -> Target:
    """Return a target; `command` replaces the start of its command line (`--target-command`).

    Raises UserError for an unknown name and for a command that cannot be started.
    """
    if name not in TARGETS:
        near = difflib.get_close_matches(name, TARGETS, n=1, cutoff=0.5)
        hint = f"did you mean `{near[0]}`? " if near else ""
        raise UserError(f"no such target `{name}`; {hint}known: {', '.join(target_names())}")
    if command is None:
        return TARGETS[name]()
    if name != RuntimeTarget.name:
        raise UserError(f"--target-command replaces the command of `runtime`, not of `{name}`")
    return RuntimeTarget(_split(command))


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
