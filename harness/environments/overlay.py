"""Versions of packages over an environment: a folder that goes first on the workers' path.

Only the named packages and what they need are in it, so it is made in seconds; everything else
comes from the environment below, at the versions that it has.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from harness.environments.cache import Say, made_once, python_tag
from harness.environments.pins import Pin, normal
from harness.errors import UserError

INSTALL_S = 600.0
_LIST = """
import importlib.metadata as m, json
print(json.dumps({d.metadata["Name"]: d.version for d in m.distributions()}))
"""
_CONFLICT = "ResolutionImpossible"


@dataclass(frozen=True)
class Environment:
    """What workers are run with: the interpreter, folders before its own, and the versions."""

    interpreter: str
    python_path: tuple[Path, ...]
    versions: Mapping[str, str]


def environment(interpreter: str, pins: Iterable[Pin], say: Say) -> Environment:
    """Return the interpreter's environment with `pins` over it, from the cache or made now.

    Raises UserError with pip's own words when a version does not exist or does not install.
    """
    base = installed_in(interpreter)
    chosen = tuple(sorted(pins))
    if not chosen:
        return Environment(interpreter, (), base)
    folder = made_once(
        _folder_name(base, chosen),
        lambda path: _fill(path, interpreter, base, chosen),
        say,
        ", ".join(map(str, chosen)),
    )
    over = {normal(d.metadata["Name"]): d.version for d in distributions(path=[str(folder)])}
    return Environment(interpreter, (folder,), {**base, **over})


def installed_in(interpreter: str) -> dict[str, str]:
    """Return normal name → version of everything that an interpreter can import."""
    done = subprocess.run(
        [interpreter, "-I", "-c", _LIST], capture_output=True, text=True, check=True, timeout=60
    )
    return {normal(name): version for name, version in json.loads(done.stdout).items() if name}


def _folder_name(base: Mapping[str, str], pins: tuple[Pin, ...]) -> str:
    """Return a name that changes with the environment below, whose versions bind the rest."""
    digest = hashlib.sha256(json.dumps([sorted(base.items()), list(map(str, pins))]).encode())
    words = "-".join(f"{pin.name.partition('[')[0]}-{pin.version}" for pin in pins)
    return f"with-{words[:80]}-{python_tag()}-{digest.hexdigest()[:10]}"


def _fill(folder: Path, interpreter: str, base: Mapping[str, str], pins: tuple[Pin, ...]) -> None:
    """Install; when the versions below contradict the pins, let pip choose the rest anew."""
    done = _pip(folder, interpreter, pins, base)
    if done.returncode and _CONFLICT in done.stdout + done.stderr:
        done = _pip(folder, interpreter, pins, {})
    if done.returncode:
        said = "\n".join(f"  {line[:160]}" for line in done.stderr.strip().splitlines()[-8:])
        raise UserError(
            f"--with {' '.join(map(str, pins))}: pip could not install it. Look with `pip index "
            f"versions {pins[0].name}` for the versions there are. It said:\n{said}"
        )


def _pip(
    folder: Path, interpreter: str, pins: tuple[Pin, ...], base: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    named = {pin.name.partition("[")[0] for pin in pins}
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as constraints:
        lines = (f"{name}=={version}\n" for name, version in base.items() if name not in named)
        constraints.writelines(lines)
        constraints.flush()
        return subprocess.run(
            [
                *(sys.executable, "-m", "pip", "--python", interpreter, "install"),
                *("--quiet", "--disable-pip-version-check", "--no-input"),
                *("--target", str(folder), "--constraint", constraints.name),
                *map(str, pins),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=INSTALL_S,
        )
