"""nginx in front of the workers: its configuration, its start, where it answers."""

from __future__ import annotations

import functools
import grp
import os
import pwd
import re
import resource
import shutil
import subprocess
from collections.abc import Collection
from typing import TYPE_CHECKING

from harness.deploy.folder import RunFolder
from harness.deploy.model import PIN_HEADER, SERVED_HEADER, Balancer, Boxed, Deployment, Worker
from harness.deploy.service import answered, clean_environment
from harness.errors import MissingPart

if TYPE_CHECKING:
    from harness.deploy.spawner import Guardian

NAME = "balancer"
HOST, PORT = 4, 8080
READY_S = 10.0
MOST_DESCRIPTORS = 65536
REMEDY = "run `make setup`, or `apt-get install nginx`"
NO_NGINX = f"it needs nginx in front of the workers, and nginx was not found; {REMEDY}"
SYSTEM_FOLDERS = "/usr/sbin:/usr/local/sbin"  # not on the path of users who are not root

# Why these values:
#   one worker process    least connections are then counted in one place
#   keepalive_timeout 3s  uvicorn closes idle connections after 5 s: nginx must be the first, or a
#                         POST meets a closing connection and is answered 502
#   3600s on /ws/         a socket is quiet for as long as nobody writes
#   two locations         only sockets may be silent for an hour
CONFIGURATION = """\
daemon off;
@USER@
worker_processes 1;
worker_rlimit_nofile @DESCRIPTORS@;
pid nginx.pid;
error_log stderr warn;
events { worker_connections @CONNECTIONS@; }

http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;

    upstream balanced {
        least_conn;
@BALANCED@
        keepalive 64;
        keepalive_timeout 3s;
    }
@PINNED@
    map $http_@PIN@ $way {
        "" balanced;
        default nobody;
@PINS@
    }
    map $http_upgrade $connection_header {
        "" "";
        default upgrade;
    }

    server {
        listen @HOST@:@PORT@ backlog=4096;
        client_max_body_size 100m;
        keepalive_requests 1000000;
        if ($way = nobody) { return 421; }

        proxy_http_version 1.1;
        proxy_buffering off;
        proxy_connect_timeout 5s;
        proxy_set_header Host $http_host;
        proxy_set_header X-Real-IP $remote_addr;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $connection_header;
        proxy_set_header @PIN_HEADER@ "";
        add_header @SERVED_HEADER@ $upstream_addr always;

        location / {
            proxy_pass http://$way;
        }
        location /ws/ {
            proxy_pass http://$way;
            proxy_read_timeout 3600s;
            proxy_send_timeout 3600s;
        }
    }
}
"""


def find_nginx() -> str | None:
    """Return the path of nginx: on the path, or where Debian puts it; None when it is missing."""
    return shutil.which("nginx") or shutil.which("nginx", path=SYSTEM_FOLDERS)


@functools.cache
def nginx_version(program: str) -> str:
    """Return the version, such as 1.22.1, as the program tells it."""
    done = subprocess.run([program, "-v"], capture_output=True, text=True, check=False)
    return _version(done.stderr)


def _version(said: str) -> str:
    found = re.search(r"nginx/([\d.]+)", said)
    return found[1] if found else "of unknown version"


async def start_balancer(
    guardian: Guardian, deployment: Deployment, run: RunFolder, boxed: Boxed | None = None
) -> None:
    """Start nginx on the run's 127.x.y.4 and set `deployment.balancer`; workers must be ready.

    Raises MissingPart without nginx, UserError with the end of its log when it does not come up.
    """
    directory = (run.data / NAME).resolve()
    directory.mkdir(parents=True, exist_ok=True)
    balancer = Balancer(f"{deployment.subnet}.{HOST}", PORT, directory, boxed=boxed)
    write_configuration(balancer, deployment.workers)
    await launch_balancer(guardian, balancer)
    deployment.balancer = balancer


async def launch_balancer(guardian: Guardian, balancer: Balancer) -> None:
    """Start nginx (again) over its configuration and wait until it answers for a worker."""
    folder = balancer.directory
    words = ["-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
    if (boxed := balancer.boxed) is not None:
        balancer.process = await boxed.launch(NAME, words, program="nginx", folder=folder)
    else:
        program = _program()
        balancer.version = nginx_version(program)
        argv = [program, *words]
        balancer.process = await guardian.spawn(NAME, argv, clean_environment(), folder)
    await answered(balancer.process, f"{balancer.url}/health", READY_S)
    if boxed is not None:
        balancer.version = _version(await boxed.output(["nginx", "-v"]))


def _program() -> str:
    if (program := find_nginx()) is None:
        raise MissingPart(f"nginx is not installed: expected it on the path; {REMEDY}")
    return program


def write_configuration(
    balancer: Balancer, workers: list[Worker], without: Collection[int] = ()
) -> None:
    """Write its nginx.conf, for its start or before a reload."""
    text = configuration(balancer, workers, without)
    (balancer.directory / "nginx.conf").write_text(text, encoding="utf-8")


def configuration(balancer: Balancer, workers: list[Worker], without: Collection[int] = ()) -> str:
    """Return nginx.conf: one entry that balances, and goes where the pin header says.

    Workers in `without` are not chosen. A pin still leads there: what they serve to who was there
    before has to be looked at.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors = MOST_DESCRIPTORS if most < 0 else min(most, MOST_DESCRIPTORS)
    servers = [
        f"        server {worker.host}:{worker.port};"
        for worker in workers
        if worker.number not in without
    ]
    values = {
        "USER": _user(boxed=balancer.boxed is not None),
        "DESCRIPTORS": str(descriptors),
        "CONNECTIONS": str(descriptors // 2),  # each of a user has one to a worker behind it
        "BALANCED": "\n".join(servers),
        "PINNED": "".join(_pinned(worker) for worker in workers),
        "PINS": "\n".join(f"        {w.number} worker_{w.number};" for w in workers),
        "PIN": PIN_HEADER.lower().replace("-", "_"),
        "HOST": balancer.host,
        "PORT": str(balancer.port),
        "PIN_HEADER": PIN_HEADER,
        "SERVED_HEADER": SERVED_HEADER,
    }
    return re.sub("@([A-Z_]+)@", lambda match: values[match[1]], CONFIGURATION)


def _pinned(worker: Worker) -> str:
    return (
        f"    upstream worker_{worker.number} {{ server {worker.host}:{worker.port}; "
        "keepalive 32; keepalive_timeout 3s; }\n"
    )


def _user(*, boxed: bool) -> str:
    """Return nginx's `user` line: only root may say it, and must, to keep its own identity.

    An image has users and groups of its own; it knows root.
    """
    if os.geteuid() != 0:
        return ""
    if boxed:
        return "user root root;"
    return f"user {pwd.getpwuid(0).pw_name} {grp.getgrgid(os.getegid()).gr_name};"
