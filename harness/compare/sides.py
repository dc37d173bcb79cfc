"""What a benchmark measures against: another target, version, command, or commit of the project."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from harness.environments.cache import made_once
from harness.environments.pins import single
from harness.errors import UserError
from harness.options import RunOptions
from harness.targets import TARGETS, VERSIONED, target_names

COMMAND = "command:"
AT_TREE = Path(__file__).with_name("at_tree.py")


@dataclass(frozen=True)
class Side:
    """One side of a comparison: what it is called and what runs."""

    label: str
    options: RunOptions


def this_side(options: RunOptions) -> Side:
    """Return what the command line names without `--against`."""
    words = [options.target or "", options.target_command or "", *map(str, options.pins)]
    return Side(" ".join(word for word in words if word) or "as it is", options)


def other_side(text: str, options: RunOptions) -> Side:
    """Return what `--against` names; raise UserError when it is nothing that is known.

    `command:CMD`, a target (`stock`, `open-webui==V`), a package's version (`redis==V`), or a
    commit, branch or tag of this project, whose runtime is then taken.
    """
    bare = replace(options, target=None, target_command=None, pins=())
    if text.startswith(COMMAND):
        return Side(text, replace(bare, target_command=text.removeprefix(COMMAND)))
    name, version, _ = text.partition("==")
    if name in TARGETS or name in VERSIONED:
        return Side(text, replace(bare, target=text))
    if version:
        return Side(text, replace(options, pins=single([text])))
    commit = _commit(text)
    tree = made_once(f"runtime-{commit}", lambda folder: _unpack(commit, folder), _say, text)
    command = f"{sys.executable} {AT_TREE} {tree}"
    return Side(f"{text} ({commit})", replace(bare, target_command=command))


def _commit(ref: str) -> str:
    done = _git("rev-parse", "--verify", "--quiet", "--short=12", f"{ref}^{{commit}}")
    if done.returncode:
        raise UserError(
            f"--against {ref}: expected a target ({', '.join(target_names())}), a version such as "
            f"redis==7.4.0, {COMMAND}CMD, or a commit, branch or tag of this checkout"
        )
    return done.stdout.decode().strip()


def _unpack(commit: str, folder: Path) -> None:
    """Put the runtime of a commit into a folder; raise UserError when it has none."""
    folder.mkdir(parents=True)
    archive = _git("archive", "--format=tar", commit, "runtime")
    if archive.returncode:
        raise UserError(f"{commit} has no runtime: {archive.stderr.decode().strip()}")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run git in this project's checkout, wherever the command was called."""
    command = ["git", "-C", str(Path(__file__).resolve().parents[2]), *arguments]
    return subprocess.run(command, capture_output=True, check=False)


def _say(text: str) -> None:
    print(text, file=sys.stderr)
