"""Looks at this machine: which parts a run needs are there, and how to get the others."""

from __future__ import annotations

import os
import platform
import re
import resource
import socket
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness.deploy import engine
from harness.deploy.balancer import REMEDY, find_nginx, nginx_version
from harness.deploy.host import server_version, speaks_tls
from harness.deploy.lease import cache_folder
from harness.deploy.postgres import program
from harness.errors import MissingPart
from harness.network import firewall
from harness.network.dialhook.sitecustomize import check as hook_problem
from harness.network.toxiproxy import find_toxiproxy
from harness.verdict import ExitCode

PYTHON = (3, 11)
REDIS = (6, 2)
DESCRIPTORS = 4096
PROCESSORS = 2


@dataclass(frozen=True)
class Finding:
    """What was found of one part. `needed`: without it nothing runs."""

    part: str
    ok: bool
    detail: str
    remedy: str = ""
    needed: bool = True


def doctor() -> int:
    """Print the findings; return 0, or 4 when a needed part is missing."""
    findings = examine()
    width = max(len(finding.part) for finding in findings)
    for finding in findings:
        print(_line(finding, width))
    missing = any(finding.needed and not finding.ok for finding in findings)
    return int(ExitCode.MISSING_PART) if missing else 0


def examine() -> list[Finding]:
    """Look at every part; never raises for a missing one."""
    looks: tuple[Callable[[], Finding], ...] = (
        _python,
        _redis,
        _hook,
        _toxiproxy,
        _packet_filter,
        _nginx,
        _postgres,
        _engine,
        _image,
        _loopback,
        _cache,
        _descriptors,
        _processors,
    )
    return [look() for look in looks]


def _line(finding: Finding, width: int) -> str:
    mark = "ok  " if finding.ok else ("MISS" if finding.needed else "warn")
    remedy = "" if finding.ok else f" → {finding.remedy}"
    return f"{mark}  {finding.part:<{width}}  {finding.detail}{remedy}"


def _python() -> Finding:
    ok = sys.version_info >= PYTHON
    return Finding("python", ok, platform.python_version(), "install Python 3.11 or later")


def _redis() -> Finding:
    remedy = "run `make setup`, or `apt-get install redis-server` (6.2 or later, best 7)"
    try:
        version = server_version()
    except MissingPart:
        return Finding("redis-server", False, "not on the path", remedy)
    found = tuple(map(int, re.findall(r"\d+", version)[:2]))
    tls = "with TLS" if speaks_tls() else "without TLS: scenarios with `redis.tls` are skipped"
    return Finding("redis-server", found >= REDIS, f"{version}, {tls}", remedy)


def _hook() -> Finding:
    problem = hook_problem()
    remedy = "run `make setup`: it installs the redis-py that the harness is tested with"
    return Finding("dial hook", problem is None, problem or "fits the installed redis-py", remedy)


def _toxiproxy() -> Finding:
    found = find_toxiproxy()
    detail = str(found) if found else "not on the path nor in the cache: no network faults"
    remedy = "run `make setup`, or put toxiproxy-server 2.12.0 on the path"
    return Finding("toxiproxy-server", found is not None, detail, remedy, needed=False)


def _packet_filter() -> Finding:
    lacking = firewall.missing()
    detail = f"no partitions between nodes: {lacking}" if lacking else "partitions between nodes"
    remedy = "install iptables and run as root; other scenarios need neither"
    return Finding("packet filter", not lacking, detail, remedy, needed=False)


def _nginx() -> Finding:
    if (path := find_nginx()) is None:
        return Finding("nginx", False, "not found: no `balancer: nginx`", REMEDY, needed=False)
    return Finding("nginx", True, f"{nginx_version(path)} for `balancer: nginx`", needed=False)


def _postgres() -> Finding:
    remedy = "run `make setup`, or `apt-get install postgresql`"
    part = "postgresql"
    try:
        path = program("postgres")
    except MissingPart:
        detail = "not found: targets get SQLite"
        return Finding(part, False, detail, remedy, needed=False)
    return Finding(part, True, path, needed=False)


def _engine() -> Finding:
    remedy = "only for --host containers: start docker; `make test-containers` shows how"
    try:
        client = engine.connect()
    except MissingPart as error:
        why = str(error).partition(". ")[0]
        return Finding("container engine", False, why, remedy, needed=False)
    try:
        version = client.version()["Version"]
    finally:
        client.close()
    return Finding("container engine", True, f"{version} at {engine.address()}", needed=False)


def _image() -> Finding:
    remedy = "only for --host containers: `harness images build`"
    part = "container image"
    try:
        client = engine.connect()
    except MissingPart:
        return Finding(part, False, "no engine to ask", remedy, needed=False)
    try:
        found = client.images.get(engine.BUILT)
        others = [name for name in ("toxiproxy", "nginx") if _built(client, name)]
    except engine.ERRORS as error:
        return Finding(part, False, engine.reason(error), remedy, needed=False)
    finally:
        client.close()
    also = f"; also built: {', '.join(others)}" if others else ""
    return Finding(part, True, f"{engine.BUILT} {found.short_id}{also}", needed=False)


def _built(client: Any, part: str) -> bool:
    """Tell whether an image that only `images` asks for is there."""
    return bool(client.images.list(name=f"{engine.OURS}{part}"))


def _loopback() -> Finding:
    host = "127.16.0.10"
    try:
        with socket.socket() as probe:
            probe.bind((host, 0))
    except OSError as error:
        remedy = f"Linux has all of 127.0.0.0/8; macOS: `sudo ifconfig lo0 alias {host}`"
        return Finding("loopback subnets", False, f"{host}: {error.strerror}", remedy)
    return Finding("loopback subnets", True, f"{host} can be bound")


def _cache() -> Finding:
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return Finding("cache folder", True, str(folder))
    except OSError as error:
        remedy = "set XDG_CACHE_HOME to a folder that can be written"
        return Finding("cache folder", False, f"{folder}: {error.strerror}", remedy)


def _descriptors() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    detail = f"{soft} open files allowed (at most {hard})"
    remedy = f"`ulimit -n {DESCRIPTORS}` before a run with many users"
    enough = soft == resource.RLIM_INFINITY or soft >= DESCRIPTORS
    return Finding("descriptors", enough, detail, remedy, needed=False)


def _processors() -> Finding:
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    remedy = f"{PROCESSORS} or more keep the load from slowing down what it measures"
    return Finding("processors", count >= PROCESSORS, str(count), remedy, needed=False)
