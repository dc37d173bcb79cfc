"""Which versions of a package there are, asked of the package index through pip itself."""

from __future__ import annotations

import subprocess
import sys

from packaging.version import Version

from harness.environments.pins import normal
from harness.errors import UserError

ASK_S = 120.0
_LINE = "Available versions:"


def released(name: str) -> list[str]:
    """Return every released version, oldest first; raise UserError when pip finds none."""
    words = [sys.executable, "-m", "pip", "index", "versions", "--disable-pip-version-check", name]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=ASK_S)
    line = next((one for one in done.stdout.splitlines() if one.startswith(_LINE)), None)
    if done.returncode or line is None:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise UserError(
            f"`pip index versions {name}` found no versions: {said}. Expected the name of a "
            "package on the index that pip is set up for."
        )
    versions = (part.strip() for part in line.removeprefix(_LINE).split(","))
    return sorted(versions, key=Version)


def between(name: str, good: str, bad: str) -> list[str]:
    """Return the versions from `good` to `bad`, both included; raise UserError for a wrong end."""
    versions = released(normal(name))
    for end in (good, bad):
        if end not in versions:
            raise UserError(
                f"{name} {end}: no such release; the newest are {', '.join(versions[-12:])}"
            )
    first, last = versions.index(good), versions.index(bad)
    if first >= last:
        raise UserError(f"--good {good} --bad {bad}: expected the good one to be the older one")
    return versions[first : last + 1]
