"""Progress: plain lines for a log, one live line for a terminal."""

from __future__ import annotations

import io

import pytest

from harness import progress as progress_module
from harness.progress import Progress, Silent


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.t = 0.0

    def now(self) -> float:
        """Return the time the test set."""
        return self.t


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock that every Progress of the test reads."""
    made = Clock()
    monkeypatch.setattr(progress_module, "RunClock", lambda: made)
    return made


def test_plain_lines(clock: Clock) -> None:
    """A log gets phases, fault changes, notes, and facts every 5 s of load; not every update."""
    out = io.StringIO()
    with Progress("demo", out) as progress:
        progress.phase("load")
        for tick in range(24):
            clock.t = tick * 0.5
            fault = "kill redis-0" if 4 <= clock.t < 8 else None
            progress.update(users=50, ops=tick * 50, errors=0, shed=0, sockets=7, fault=fault)
        progress.note("worker 2 restarted")
        progress.phase("collect")
    lines = [line[9:] for line in out.getvalue().splitlines()]
    assert lines == [
        "   0.0 s  demo: phase load",
        "   4.0 s  demo: fault: kill redis-0",
        "   5.0 s  demo: 50 users, 500 ops, 100 ops/s, 0 errors, fault: kill redis-0, 7 sockets",
        "   8.0 s  demo: fault over: kill redis-0",
        "  10.0 s  demo: 50 users, 1000 ops, 100 ops/s, 0 errors, 7 sockets",
        "  11.5 s  demo: worker 2 restarted",
        "  11.5 s  demo: phase collect",
    ]


def test_live_line_shows_phase_facts_and_fault(clock: Clock) -> None:
    """On a terminal one line holds title, phase, elapsed time, facts and the current fault."""
    out = io.StringIO()
    with Progress("demo", out, live=True) as progress:
        progress.phase("load")
        clock.t = 3.0
        progress.update(users=9, ops=10, errors=2, late_ms=3, fault="kill redis-0")
        said = progress.__rich__().plain
    assert " ".join(said.split()) == "demo load 3.0 s 9 users 2 errors fault: kill redis-0"
    assert "phase load" in out.getvalue()


def test_live_line_ends(clock: Clock) -> None:
    """After `close`, twice as well, nothing more is drawn and later words are plain."""
    out = io.StringIO()
    progress = Progress("demo", out, live=True)
    progress.close()
    progress.close()
    drawn = out.getvalue()
    progress.note("later")
    assert out.getvalue().removeprefix(drawn)[9:] == "   0.0 s  demo: later\n"


def test_silent_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """`--quiet` prints nothing while a run goes on."""
    with Silent() as progress:
        progress.phase("load")
        progress.update(ops=1, fault="x")
        progress.note("text")
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
