"""Removes the containers of a run, also after SIGKILL of the harness; standard library only.

The guardian runs this file by path with `python -I -S FILE SOCKET OWNER`, `harness clean` calls its
functions. It speaks HTTP with the engine over its Unix socket, so that the guardian needs no
packages. Containers are known by labels: whose run they are, and which guardian looks after it.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from typing import Any

RUN = "redis-failover-harness.run"  # label → the run's folder
OWNER = "redis-failover-harness.guardian"  # label → namespace, pid and start of its guardian
ANSWER_S = 20.0
AGAIN_S = 0.3  # a container whose creation was under way when the harness died shows up by then
TRIES = 20


class Unix(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("engine", timeout=ANSWER_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def owner(pid: int, started: int) -> str:
    """Return the name of a guardian; pids are numbers of one namespace, and used again."""
    return f"{namespace()}-{pid}-{started}"


def namespace() -> str:
    """Return the number of this process's pid namespace; 0 where there are none."""
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)  # noqa: PTH116 - the link's target
    except OSError:
        return "0"


def containers(path: str, label: str) -> list[dict[str, Any]]:
    """Return what the engine tells of all containers with a label; raise OSError."""
    filters = urllib.parse.quote(json.dumps({"label": [label]}))
    status, body = _call(path, "GET", f"/containers/json?all=1&filters={filters}")
    if status != 200:
        raise OSError(f"the engine at {path} answers {status}: {body.decode(errors='replace')}")
    found: list[dict[str, Any]] = json.loads(body)
    return found


def remove(path: str, identities: list[str]) -> None:
    """Remove containers with their anonymous volumes, running, stopped or paused ones alike."""
    with ThreadPoolExecutor(8) as threads:
        list(
            threads.map(
                lambda one: _call(path, "DELETE", f"/containers/{one}?force=1&v=1"), identities
            )
        )


def sweep(path: str, label: str) -> int:
    """Remove every container with a label until none is left; return how many there were.

    Looks twice: the engine may still be creating one that it was asked for before.
    """
    removed: set[str] = set()
    quiet = 0
    for _ in range(TRIES):
        found = [each["Id"] for each in containers(path, label)]
        removed.update(found)
        quiet = 0 if found else quiet + 1
        if quiet == 2:
            return len(removed)
        if found:
            remove(path, found)
        else:
            time.sleep(AGAIN_S)
    raise OSError(f"containers with label {label} are still there")


def _call(path: str, method: str, url: str) -> tuple[int, bytes]:
    connection = Unix(path)
    try:
        connection.request(method, url)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except http.client.HTTPException as error:
        raise OSError(f"the engine at {path}: {error!r}") from error
    finally:
        connection.close()


if __name__ == "__main__":
    print(f"removed {sweep(sys.argv[1], f'{OWNER}={sys.argv[2]}')} containers", flush=True)
