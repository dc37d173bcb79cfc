"""The canaries' timetable."""

from __future__ import annotations

import itertools

import pytest

from harness.probes.canary import next_due

FOCUS = [(10.0, 20.0), (40.0, 50.0)]


def posts(start: float, end: float, rate: float = 4, phase: float = 0.0) -> list[float]:
    """Return every instant of the timetable in [start, end)."""
    due, found = start, []
    while (due := next_due(due, FOCUS, rate, phase)) < end:
        found.append(due)
    return found


def test_canaries_are_quiet_outside_focus() -> None:
    """One in 6 s, and the first of a window is on time."""
    assert posts(20.0, 41.0) == pytest.approx([26.0, 32.0, 38.0, 40.0, 40.25, 40.5, 40.75])


def test_inside_focus_canaries_keep_the_rate() -> None:
    """Exactly rate times seconds, evenly, none twice."""
    inside = posts(9.0, 20.0)
    assert len(inside) == 40
    gaps = [later - earlier for earlier, later in itertools.pairwise(inside)]
    assert gaps == pytest.approx([0.25] * 39)


@pytest.mark.parametrize("rate", [0.5, 3, 7, 8.5])
@pytest.mark.parametrize("phase", [0.0, 1 / 3, 2 / 3])
def test_the_count_holds_for_any_rate_and_phase(rate: float, phase: float) -> None:
    """Rounding neither drops a canary nor sends it twice."""
    inside = [due for due in posts(5.0, 20.0, rate, phase) if due >= 10.0]
    grid = [10 + (k + phase) / rate for k in range(int(10 * rate) + 1)]
    quiet = [due for due in grid if due < 20]
    assert len(inside) in (len(quiet), len(quiet) + 1)  # one quiet canary may fall into it


def test_workers_take_turns() -> None:
    """The phase shifts the grid, so that three workers do not post at once."""
    assert posts(10.0, 10.2, phase=1 / 3)[0] == pytest.approx(10 + 1 / 12)


def test_without_a_focus_load_only_quiet_canaries_are_posted() -> None:
    """A rate of 0 means none but the quiet ones."""
    assert posts(9.0, 22.0, rate=0) == pytest.approx([15.0, 21.0])


def test_before_the_focus_is_known_canaries_are_quiet() -> None:
    """Load second 0 is not known while the sockets are opened."""
    assert next_due(3.0, [], 4, 0.0) == 9.0
