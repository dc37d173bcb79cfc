"""Starting HTTP services of a run: a clean environment, and waiting until they answer."""

from __future__ import annotations

import os
import signal
import sys
from collections import deque
from pathlib import Path

import aiohttp

from harness.deploy.model import Process
from harness.errors import UserError
from harness.waiting import WaitTimeout, wait_for

TAIL_LINES = 32
TRY_S = 1.0
KEPT = ("HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "PYTHONPATH")


def clean_environment(*python_path: Path) -> dict[str, str]:
    """Return a small environment: nothing of the user's settings may reach a service by chance.

    The harness's own interpreter comes first on PATH, `python_path` first on PYTHONPATH.
    """
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    environment["PATH"] = os.pathsep.join(folders)
    inherited = [Path(path) for path in environment.pop("PYTHONPATH", "").split(os.pathsep) if path]
    paths = [str(path.resolve()) for path in (*python_path, *inherited)]
    if paths:
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    environment["PYTHONUNBUFFERED"] = "1"  # a log must be whole when the process is killed
    return environment


async def answered(process: Process, url: str, deadline: float) -> None:
    """Wait until `url` answers 200.

    Raises UserError, with the last lines of its log, when the process ends or does not answer
    within `deadline` seconds.
    """
    timeout = aiohttp.ClientTimeout(total=TRY_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:

        async def state() -> str:
            if process.exit_status is not None:
                return "ended"
            async with session.get(url) as response:
                if response.status != 200:
                    raise WaitTimeout(f"{url} answers {response.status}: {await response.text()}")
            return "ready"

        try:
            outcome: str = await wait_for(state, deadline, f"{process.name} at {url}")
        except WaitTimeout as error:
            raise UserError(f"{error}\n{log_tail(process.log)}") from error
    if outcome == "ready":
        return
    raise UserError(
        f"{process.name} ended at start with {_status(process.exit_status)}; expected it to "
        f"answer {url}. Mend what its log says and run again.\n{log_tail(process.log)}"
    )


def log_tail(log: Path) -> str:
    """Return the log's path and last 32 lines."""
    try:
        with log.open(encoding="utf-8", errors="replace") as lines:
            last = deque(lines, maxlen=TAIL_LINES)
    except OSError as error:
        return f"Its log {log} cannot be read: {error.strerror}"
    if not last:
        return f"Its log {log} is empty."
    return f"The last {len(last)} lines of {log}:\n" + "".join(f"  {line}" for line in last)


def _status(status: int | None) -> str:
    if status is not None and status < 0:
        return f"signal {signal.Signals(-status).name}"
    return f"exit status {status}"
