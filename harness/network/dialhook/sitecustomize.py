"""Runs inside each worker: sends redis-py's dials through the worker's links, times the loop.

The harness puts this folder on the worker's PYTHONPATH, so Python imports it at start. It must
not import the harness (the target may live in another environment): standard library only.

HARNESS_LINKS    JSON {"ip:port": "ip:port"}: announced Redis address → this worker's link
HARNESS_DETOURS  file with JSON {"ip:port": "ip:port"}: link → the link that took its place, if any
HARNESS_HISTORY  folder of history files; HARNESS_BASE the run's base; HARNESS_WORKER the number

Only the TCP dial changes. Names, MOVED, ASK and Sentinel answers stay the announced ones. The
places where redis-py dials are private, so this fails loudly (exit 97) when they are gone.
"""

from __future__ import annotations

import asyncio  # the worker needs it anyway
import contextlib
import importlib
import importlib.machinery
import importlib.util
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

EXIT_PRIVATE_NAME_GONE = 97
TICK_S = 0.02
PERIOD_S = 0.5
LONG_STALL_S = 0.1  # recorded at once, so that a kill soon after does not lose it
FOLDER = Path(__file__).resolve().parent


class PrivateNameGone(Exception):
    """The installed redis-py dials elsewhere than the versions that the hook knows."""


# --- dials ---------------------------------------------------------------------------------


Address = tuple[str, int]


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host, int(port)


def _links() -> dict[Address, Address]:
    pairs = json.loads(os.environ.get("HARNESS_LINKS") or "{}")
    return {_address(node): _address(link) for node, link in pairs.items()}


LINKS = _links()
DETOURS = Path(os.environ.get("HARNESS_DETOURS") or os.devnull)


def link_to(host: Any, port: Any) -> Address | None:
    """Return where a dial to an announced address has to go; None for all other addresses."""
    link = LINKS.get((str(host), int(port)))
    if link is None:
        return None
    try:
        detours = json.loads(DETOURS.read_text() or "{}")
    except OSError:  # as long as there is none
        return link
    return _address(detours.get(f"{link[0]}:{link[1]}", f"{link[0]}:{link[1]}"))


def _private(module: ModuleType, method: str, uses: set[str]) -> Callable[..., Any]:
    """Return `Connection.method`, after a look at whether it still works on `uses`."""
    function: Any = vars(getattr(module, "Connection", object)).get(method)
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType) or not uses <= set(code.co_names):
        version = getattr(sys.modules.get("redis"), "__version__", "?")
        raise PrivateNameGone(
            f"redis-py {version}: {module.__name__}.Connection.{method} is gone or no longer "
            f"uses {', '.join(sorted(uses))}; the dial hook cannot send connections through the "
            "links. Use a redis-py that the harness is tested with, or adapt "
            "harness/network/dialhook/sitecustomize.py"
        )
    found: Callable[..., Any] = function
    return found


def patch_async(module: ModuleType) -> None:
    """Let `redis.asyncio.connection.Connection` open its TCP connection to the link."""
    _private(module, "_connect", {"_connection_arguments"})
    original = _private(module, "_connection_arguments", {"host", "port"})

    def _connection_arguments(self: Any) -> Mapping[str, Any]:
        arguments = dict(original(self))
        if link := link_to(self.host, self.port):
            arguments["host"], arguments["port"] = link
            if hasattr(self, "ssl_context"):  # the certificate has to name whom the worker means
                arguments["server_hostname"] = str(self.host)
        return arguments

    module.Connection._connection_arguments = _connection_arguments  # noqa: SLF001 - pinned by tests


def patch_sync(module: ModuleType) -> None:
    """Let `redis.connection.Connection` open its TCP connection to the link."""
    original = _private(module, "_connect", {"host", "port", "getaddrinfo"})

    def _connect(self: Any) -> Any:
        announced = self.host, self.port
        link = link_to(self.host, self.port)
        if not link:
            return original(self)
        self.host, self.port = link
        try:
            return original(self)
        finally:
            self.host, self.port = announced

    module.Connection._connect = _connect  # noqa: SLF001 - pinned by tests


# --- loop stalls ---------------------------------------------------------------------------


class RunDelay:
    """How long this thread was runnable but waited for a processor, in seconds since its start."""

    def __init__(self) -> None:
        self._file = -1
        with contextlib.suppress(OSError):  # a kernel without schedstat
            self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> float:
        """Return the total so far; 0 where the kernel does not say."""
        if self._file < 0:
            return 0.0
        return int(os.pread(self._file, 96, 0).split()[1]) / 1e9


class Steal:
    """How long the hypervisor ran others on this machine's processors, in seconds since boot.

    The run delay does not know of it: for the kernel the thread was running all the time.
    """

    def __init__(self) -> None:
        self._file = -1
        with contextlib.suppress(OSError):  # no Linux
            self._file = os.open("/proc/stat", os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> float:
        """Return the total of all processors so far; 0 where the kernel does not say."""
        if self._file < 0:
            return 0.0
        return int(os.pread(self._file, 128, 0).split()[8]) / os.sysconf("SC_CLK_TCK")


def stall_of(gap: float, delay: float) -> tuple[float, float]:
    """Return (stall, raw stall) in s of a tick that came `gap` s after the last one.

    The thread waited `delay` s of it for a processor: a busy machine is no blocked loop.
    """
    raw = max(0.0, gap - TICK_S)
    return max(0.0, raw - delay), raw


class StallTimer:
    """A 20 ms timer on the worker's loop; records the worst stall of every half second.

    A thread writes: a disk that is busy for seconds would else stall the loop that is measured.
    """

    def __init__(self, folder: str, base: float, worker: int) -> None:
        self.base = base
        self.worker = worker
        source = f"worker-{worker}-{os.getpid()}"
        path = Path(folder) / f"{source}.jsonl"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._append, name="harness-stalls", daemon=True).start()
        self._write("header", self._now(), source=source, base=base, wall=time.time(), **_SAME)
        self._worst, self._raw, self._at = 0.0, 0.0, self._now()

    def start(self) -> None:
        """Begin ticking on the running loop, in the loop's own thread."""
        self._loop = asyncio.get_running_loop()
        self._delay = RunDelay()
        self._waited = self._delay.read()
        self._steal = Steal()
        self._stolen = self._steal.read()
        self._last = self._period = self._now()
        self._loop.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        now, waited = self._now(), self._delay.read()
        stall, raw = stall_of(now - self._last, waited - self._waited)
        if stall >= self._worst:
            self._worst, self._raw, self._at = stall, raw, now
        if now - self._period >= PERIOD_S or stall >= LONG_STALL_S:
            self._report(now)
        self._last, self._waited = now, waited
        self._loop.call_later(TICK_S, self._tick)

    def _report(self, now: float) -> None:
        stolen = self._steal.read()
        worst = max(0.0, self._worst - (stolen - self._stolen))
        ms, raw_ms = round(worst * 1000, 2), round(self._raw * 1000, 2)
        self._write("stall", self._at, worker=self.worker, ms=ms, raw_ms=raw_ms)
        self._worst, self._raw, self._at, self._period = 0.0, 0.0, now, now
        self._stolen = stolen

    def _now(self) -> float:
        return time.clock_gettime(time.CLOCK_MONOTONIC) - self.base

    def _write(self, kind: str, t: float, **fields: Any) -> None:
        self._lines.put(json.dumps({"t": t, "k": kind, **fields}).encode() + b"\n")

    def _append(self) -> None:
        while True:
            os.write(self._file, self._lines.get())


_SAME = {"offset": 0.0, "error": 0.0}  # one machine, one clock


def patch_uvicorn(module: ModuleType) -> None:
    """Start the stall timer on the loop that serves."""
    original: Callable[..., Awaitable[None]] = module.Server.serve

    async def serve(self: Any, *args: Any, **kwargs: Any) -> None:
        variables = os.environ
        timer = StallTimer(
            variables["HARNESS_HISTORY"],
            float(variables["HARNESS_BASE"]),
            int(variables["HARNESS_WORKER"]),
        )
        timer.start()
        await original(self, *args, **kwargs)

    module.Server.serve = serve


# --- installation --------------------------------------------------------------------------

Patch = Callable[[ModuleType], None]


def patches() -> dict[str, Patch]:
    """Return module name → patch, as the environment asks for."""
    wanted: dict[str, Patch] = {}
    if LINKS:
        wanted["redis.connection"] = patch_sync
        wanted["redis.asyncio.connection"] = patch_async
    if os.environ.get("HARNESS_HISTORY"):
        wanted["uvicorn.server"] = patch_uvicorn
    return wanted


def _fail(error: PrivateNameGone) -> None:
    sys.stderr.write(f"harness dial hook: {error}\n")
    sys.stderr.flush()
    os._exit(EXIT_PRIVATE_NAME_GONE)  # nothing in the target may catch it


class PatchingFinder:
    """Finds the wanted modules as usual, and patches each right after it was executed."""

    def __init__(self, wanted: dict[str, Patch]) -> None:
        self.wanted = wanted

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the module's own spec with a loader that patches; None for all others."""
        if name not in self.wanted:
            return None
        patch = self.wanted.pop(name)  # before the look-up below comes here again
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            try:
                patch(module)
            except PrivateNameGone as error:
                _fail(error)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]  # this loader only
        return spec


def install() -> None:
    """Patch what is imported from now on, then run the sitecustomize that this one hides."""
    sys.meta_path.insert(0, PatchingFinder(patches()))
    _chain()


def _chain() -> None:
    others = [entry for entry in sys.path if Path(entry or ".").resolve() != FOLDER]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def check() -> str | None:
    """Return why the installed redis-py cannot be hooked, or None when it can."""
    try:
        module = importlib.import_module("redis.connection")
        _private(module, "_connect", {"host", "port", "getaddrinfo"})
        module = importlib.import_module("redis.asyncio.connection")
        _private(module, "_connection_arguments", {"host", "port"})
    except (ImportError, PrivateNameGone) as error:
        return str(error)
    return None


if __name__ == "sitecustomize":  # imported by Python's start, not by a test
    install()
