"""Load that changes: arrivals follow the rate, users come and go as the level says."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.choices import Choices
from harness.errors import UserError
from harness.plan import Plan, make_plan
from harness.scenario import Scenario, load_scenario
from harness.shape import Flow, arrivals, presence

rates = st.floats(0, 500)
RATES = st.lists(st.tuples(st.floats(0.1, 20), rates, rates), min_size=1, max_size=5)


def shaped(load: dict[str, Any], **changes: Any) -> Scenario:
    """Return a scenario with this load and a measured part of 12 s after 2 s of warm-up."""
    fields = {"name": "one", "story": "A scenario for the tests of shapes.", "topology": "cluster"}
    return Scenario.model_validate(fields | {"duration_s": 12, "load": load} | changes)


def reads(plan: Plan, start: float, end: float) -> int:
    """Return how many reads are planned in a window."""
    return sum(step.do == "read" and start <= step.t < end for step in plan.timetable)


@given(RATES, st.integers(0, 100))
def test_arrivals_are_ordered_inside_and_as_many_as_the_rate_says(
    pieces: list[tuple[float, float, float]], seed: int
) -> None:
    """However the rate changes, there is one arrival per slot: never two off the integral."""
    flows, t = [], 0.0
    for length, first, last in pieces:
        flows.append(Flow(t, t + length, first, last))
        t += length
    times = list(arrivals(flows, Choices(seed, "x")))
    assert all(a <= b + 1e-6 for a, b in pairwise(times))
    assert all(-1e-6 <= each <= t + 1e-6 for each in times)
    done = 0.0
    for flow in flows:
        done += flow.amount
        assert abs(sum(each <= flow.end + 1e-6 for each in times) - done) <= 1.5


@pytest.mark.parametrize(
    ("load", "counts"),
    [
        ({}, [20, 60, 60]),
        ({"ramp": {"reads_per_s": 130}}, [20, 240, 600]),
        ({"spike": {"at": 6, "for_s": 3, "reads_per_s": 100}}, [20, 60, 330]),
        ({"steps": {"reads_per_s": [10, 50]}}, [20, 60, 300]),
        ({"soak": {"parts": 3}}, [20, 60, 60]),
        ({"shape": [{"for_s": 6, "reads_per_s": 0}, {"for_s": 2, "reads_per_s": 5}]}, [20, 0, 30]),
    ],
)
def test_shapes_plan_their_reads(load: dict[str, Any], counts: list[int]) -> None:
    """Reads in the warm-up and in both halves of the measured part; the warm-up is at the base."""
    plan = make_plan(shaped(load), 3)
    found = [reads(plan, *window) for window in ((0, 2), (2, 8), (8, 14))]
    assert all(abs(a - b) <= 1 for a, b in zip(found, counts, strict=True)), found
    assert Plan.from_json(plan.to_json()) == plan


def test_users_come_one_by_one_and_leave_in_reverse() -> None:
    """A ramp from 2 to 6 users and back: user 5 is there shortest, users 0 and 1 all the time."""
    up, down = {"for_s": 4, "users": 6, "ramp": True}, {"for_s": 4, "users": 2, "ramp": True}
    plan = make_plan(shaped({"users": 2, "shape": [up, down]}), 1)
    windows = [presence(plan.shape, user) for user in range(plan.users)]
    assert windows[:2] == [[(0.0, 14.0)]] * 2
    assert windows[2:] == [[(3.0, 9.0)], [(4.0, 8.0)], [(5.0, 7.0)], []]
    assert {step.user for step in plan.timetable if step.do == "stop"} == {0, 1}


def test_users_of_a_spike_come_once_more_for_the_next() -> None:
    """Two spikes are two windows of the same user."""
    pieces = [{"for_s": 2, "users": users} for users in (9, 3, 9, 3)]
    plan = make_plan(shaped({"users": 3, "shape": pieces}), 1)
    assert presence(plan.shape, 8) == [(2.0, 4.0), (6.0, 8.0)]
    assert plan.users == 9


@pytest.mark.parametrize(
    ("load", "words"),
    [
        ({"spike": {"at": 10, "for_s": 5}}, "longer than duration_s"),
        ({"spike": {"at": 1}, "soak": {}}, "spike and soak: expected one of them"),
        ({"steps": {}}, "expected `reads_per_s`, `users`"),
        ({"steps": {"users": [1, 2], "reads_per_s": [1]}}, "the same length"),
        ({"steps": {"users": [0, 2]}}, "at least 1 user"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(load: dict[str, Any], words: str) -> None:
    """The message says what was expected."""
    with pytest.raises(ValidationError, match=words):
        shaped(load)


def test_a_wrong_key_of_a_piece_is_named_with_its_line(tmp_path: Path) -> None:
    """File, line and nearest key, as everywhere in a scenario."""
    path = tmp_path / "one.yaml"
    lines = ["name: one", "story: A scenario for tests of shapes.", "topology: cluster", "load:"]
    path.write_text("\n".join([*lines, "  spike: {at: 1,", "    read_per_s: 3}"]))
    with pytest.raises(UserError, match=r"one\.yaml:6: load\.spike\.read_per_s: .*`reads_per_s`"):
        load_scenario(path)
