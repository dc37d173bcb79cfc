"""What goes into each image that is made from this machine's programs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.deploy.balancer import REMEDY, find_nginx, nginx_version
from harness.deploy.host import PROGRAM, server_version
from harness.deploy.postgres import program as postgres_program
from harness.deploy.spawner import find_program
from harness.errors import MissingPart
from harness.network.toxiproxy import MISSING, cached_binary, find_toxiproxy

FOLDERS = {"tmp": 0o1777}
SHELL = {"/bin/sh": Path("/bin/sh")}  # start scripts and RUN lines need one
# Servers look up whom to run as, and the names of other containers in a file before they ask.
USERS = {
    "etc/passwd": (
        "root:x:0:0:root:/:/bin/false\n"
        "www-data:x:33:33::/:/bin/false\n"
        "postgres:x:999:999::/var/lib/postgresql:/bin/sh\n"
        "nobody:x:65534:65534::/:/bin/false\n"
    ),
    "etc/group": "root:x:0:\nwww-data:x:33:\npostgres:x:999:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
# Debian's own Python: what a virtual environment needs to be made, pip among it.
PYTHON = "/usr/bin/python3"
PYTHON_WHEELS = Path("/usr/share/python-wheels")
PYTHON_REMEDY = "`apt-get install python3 python3-venv`, or build deploy/Dockerfile on another BASE"
# What compiled wheels (manylinux) may count on, beside what Python itself is linked with.
LIBRARIES = (
    *("libstdc++.so.6", "libgcc_s.so.1", "libm.so.6"),
    *("libdl.so.2", "libpthread.so.0", "libresolv.so.2", "librt.so.1", "libutil.so.1"),
)
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# As the official image: the variables POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB make the
# cluster of data files at the first start. There is no `rm`: the password's file is emptied.
POSTGRES_START = """#!/bin/sh
set -eu
for folder in /usr/lib/postgresql/*/bin; do PATH=$folder:$PATH; done
data=/var/lib/postgresql/data/pgdata
user=${POSTGRES_USER:-postgres}
if [ ! -s "$data/PG_VERSION" ]; then
    umask 077
    printf '%s\\n' "${POSTGRES_PASSWORD:?is not set}" >/tmp/password
    initdb -D "$data" -U "$user" --pwfile=/tmp/password --encoding=UTF8 --no-locale \\
        --auth-local=trust --auth-host=scram-sha-256
    : >/tmp/password
    printf 'host all all all scram-sha-256\\n' >>"$data/pg_hba.conf"
    [ "${POSTGRES_DB:-$user}" = postgres ] ||
        printf 'CREATE DATABASE "%s"\\n' "${POSTGRES_DB:-$user}" |
        postgres --single -D "$data" postgres
fi
exec postgres -D "$data" -c listen_addresses='*' "$@"
"""


@dataclass(frozen=True)
class Recipe:
    """How the image of one part is made. A version is tagged when it is a number."""

    programs: Callable[[], dict[str, Path]]  # path in the image → program here
    version: Callable[[], str]
    changes: tuple[str, ...]  # lines of a Dockerfile
    folders: Mapping[str, int] = field(default_factory=lambda: FOLDERS)  # path → mode
    texts: Mapping[str, str] = field(default_factory=dict)  # path → text
    trees: Callable[[], Iterable[Path]] = tuple  # folders and files, at the same path


def _redis() -> dict[str, Path]:
    names = (PROGRAM, "redis-cli")
    found = {f"/usr/bin/{name}": Path(find_program(name, os.environ)) for name in names}
    return {**found, **SHELL}


def _toxiproxy() -> dict[str, Path]:
    if (found := find_toxiproxy()) is None:
        raise MissingPart(MISSING.format(cache=cached_binary().parent))
    return {"/toxiproxy": found}  # where the official image has it


def _toxiproxy_version() -> str:
    program = str(_toxiproxy()["/toxiproxy"])
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.rpartition(" ")[2].strip()


def _nginx() -> dict[str, Path]:
    if (found := find_nginx()) is None:
        raise MissingPart(f"nginx is not installed: expected it on the path; {REMEDY}")
    return {"/usr/sbin/nginx": Path(found)}


def _postgres() -> dict[str, Path]:
    names = ("postgres", "initdb", "pg_isready")
    # They find their data relative to where they really lie; Debian's /usr/bin has wrappers.
    found = [Path(postgres_program("postgres")).resolve().with_name(name) for name in names]
    return {**{str(path): path for path in found}, "/usr/bin/pg_isready": found[-1], **SHELL}


def _postgres_trees() -> tuple[Path, ...]:
    home = Path(postgres_program("postgres")).resolve().parents[1]  # /usr/lib/postgresql/15
    shared = Path("/usr/share/postgresql") / home.name
    if not shared.is_dir():
        raise MissingPart(
            f"{shared} is not there: expected PostgreSQL as Debian packages it; "
            "`apt-get install postgresql`, or name another image, such as postgres:16"
        )
    return home / "lib", shared, Path("/usr/share/zoneinfo")


def _postgres_version() -> str:
    done = subprocess.run(
        [postgres_program("postgres"), "--version"], capture_output=True, text=True, check=False
    )
    return number[0] if (number := re.search(r"\d[\d.]*", done.stdout)) else "unknown"


def _python() -> dict[str, Path]:
    if not Path(PYTHON).exists() or not PYTHON_WHEELS.is_dir():
        raise MissingPart(f"Debian's Python with `venv` is not installed: {PYTHON_REMEDY}")
    found = [path for name in LIBRARIES for path in Path("/usr/lib").glob(f"*-linux-gnu/{name}")]
    return {PYTHON: Path(PYTHON), **{str(path): path for path in found}, **SHELL}


def _standard_library() -> Path:
    code = "import sysconfig; print(sysconfig.get_path('stdlib'))"
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=False)
    return Path(done.stdout.strip())


def _python_trees() -> tuple[Path, ...]:
    return _standard_library(), PYTHON_WHEELS, *filter(Path.exists, (CERTIFICATES,))


def python_version() -> str:
    """Return the version of Debian's Python, such as 3.11.2; raise MissingPart."""
    if shutil.which(PYTHON) is None:
        raise MissingPart(f"{PYTHON} is not installed: {PYTHON_REMEDY}")
    done = subprocess.run([PYTHON, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.removeprefix("Python ").strip()


# Of the host `containers`.
RECIPES = {
    "redis": Recipe(
        _redis,
        server_version,
        (
            "ENV PATH=/usr/bin:/bin",
            "WORKDIR /data",
            "EXPOSE 6379",
            # not an entry point: what a user appends replaces it, as with the official image
            'CMD ["redis-server", "--save", "", "--protected-mode", "no", "--bind", "*"]',
        ),
        {"data": 0o777, **FOLDERS},
        {"etc/nsswitch.conf": USERS["etc/nsswitch.conf"]},
    ),
    "toxiproxy": Recipe(
        _toxiproxy,
        _toxiproxy_version,
        ("EXPOSE 8474", 'ENTRYPOINT ["/toxiproxy"]', 'CMD ["-host=0.0.0.0"]'),
    ),
    "nginx": Recipe(
        _nginx,
        lambda: nginx_version(str(_nginx()["/usr/sbin/nginx"])),
        (
            "ENV PATH=/usr/sbin",
            "EXPOSE 80",
            'CMD ["nginx", "-g", "daemon off;"]',
        ),
        {"var/log/nginx": 0o777, "var/lib/nginx": 0o777, **FOLDERS},
        USERS,
    ),
}
# Of the compose files, beside these.
DEPLOYED = {
    "postgres": Recipe(
        _postgres,
        _postgres_version,
        (
            "ENV PATH=/usr/bin:/bin",
            "USER 999:999",
            "EXPOSE 5432",
            'ENTRYPOINT ["/usr/local/bin/start"]',
        ),
        {"var/lib/postgresql/data": 0o777, "var/run/postgresql": 0o777, **FOLDERS},
        {**USERS, "usr/local/bin/start": POSTGRES_START},
        _postgres_trees,
    ),
    "python": Recipe(
        _python,
        python_version,
        ("ENV PATH=/usr/bin:/bin LANG=C.UTF-8", f'CMD ["{PYTHON}"]'),
        texts=USERS,
        trees=_python_trees,
    ),
}
