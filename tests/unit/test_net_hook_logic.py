"""The dial hook's own logic, without servers."""

from __future__ import annotations

import asyncio
import os
import time
import types
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from harness.network.dialhook import sitecustomize as hook
from harness.waiting import wait_for


def test_the_installed_redis_py_can_be_hooked() -> None:
    """The private names that the hook patches are there."""
    assert hook.check() is None


def test_a_tick_in_time_is_no_stall() -> None:
    """A gap of one tick is no stall."""
    assert hook.stall_of(0.02, 0.0) == (0.0, 0.0)


def test_waiting_for_a_processor_is_no_stall() -> None:
    """What the thread waited for a processor is taken off; the raw value keeps it."""
    stall, raw = hook.stall_of(0.42, 0.3)
    assert stall == pytest.approx(0.1)
    assert raw == pytest.approx(0.4)


def test_a_connection_that_dials_elsewhere_is_noticed() -> None:
    """The method must still use the names that the hook relies on."""
    module = types.ModuleType("redis.connection")

    class Connection:
        def _connect(self) -> None:
            return None

    module.Connection = Connection  # type: ignore[attr-defined]  # stand-in
    with pytest.raises(hook.PrivateNameGone, match="no longer uses"):
        hook.patch_sync(module)


def test_nothing_is_patched_without_an_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without the harness's variables is left alone."""
    monkeypatch.delenv("HARNESS_HISTORY", raising=False)
    assert hook.patches() == {}


def test_steal_is_the_eighth_figure_of_proc_stat() -> None:
    """What the hypervisor took is read in seconds, and never runs backwards."""
    steal = hook.Steal()
    first = steal.read()
    line = Path("/proc/stat").read_text().splitlines()[0].split()
    assert 0.0 <= first <= int(line[8]) / os.sysconf("SC_CLK_TCK")
    assert steal.read() >= first


async def test_a_stuck_disk_does_not_stall_the_measured_loop(tmp_path: Path) -> None:
    """The loop ticks on while what it recorded cannot be written; it is written afterwards."""
    path = tmp_path / f"worker-0-{os.getpid()}.jsonl"
    os.mkfifo(path)
    with stuck_pipe(path) as reader:
        hook.StallTimer(str(tmp_path), time.monotonic(), 0).start()
        beats = 0
        while beats < hook.PERIOD_S / hook.TICK_S * 2:  # at least one report is due
            await asyncio.sleep(hook.TICK_S)
            beats += 1
        await wait_for(lambda: b'"k": "stall"' in take(reader), 20, "the stalls come")


def take(reader: int) -> bytes:
    """Return what is there, which may be nothing."""
    with suppress(BlockingIOError):
        return os.read(reader, 1 << 20)
    return b""


@contextmanager
def stuck_pipe(path: Path) -> Iterator[int]:
    """Fill a pipe to the brim: the next write blocks until somebody reads."""
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    filler = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while os.write(filler, b" "):
            pass
    try:
        yield reader
    finally:
        os.close(filler)
        os.close(reader)
