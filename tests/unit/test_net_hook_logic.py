"""The dial hook's own logic, without servers."""

from __future__ import annotations

import os
import types
from pathlib import Path

import pytest

from harness.network.dialhook import sitecustomize as hook


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
