"""How a probe ends the work that it began."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from harness.clock import RunClock
from harness.deploy.model import Deployment
from harness.history.writer import HistoryWriter
from harness.probes.base import Probe
from harness.probes.join import make_client
from harness.targets import get_target


class Quiet(Probe):
    """Watches nothing."""

    name = "quiet"

    async def watch(self) -> None:
        """Return at once."""


async def test_work_that_is_ended_before_its_first_step_is_closed(tmp_path: Path) -> None:
    """It would be reported as never awaited, in whichever test or run comes next."""
    writer = HistoryWriter(tmp_path, "harness", RunClock())
    probe = Quiet(Deployment("standalone", get_target("runtime"), "127.0.0"), writer)
    work = probe.watch()
    probe.spawn(work)
    await probe.stop()
    assert inspect.getcoroutinestate(work) == inspect.CORO_CLOSED
    assert probe.pending == 0
    writer.close()


async def test_a_lost_socket_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """What the libraries say of it would stand in the middle of a run's progress."""
    client = make_client()
    for logger in (client.logger, client.eio.logger):
        logger.error("packet queue is empty, aborting")
    assert capfd.readouterr() == ("", "")
