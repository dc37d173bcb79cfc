"""The knee of planted points, the search for it, and points that say nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.capacity.cpus import CpuPlan, parse, plan_cpus, split
from harness.capacity.loads import CLOSE, next_load
from harness.capacity.objective import Knee, Objective, find_knee
from harness.capacity.points import Point
from harness.capacity.sweep import Choices, bottleneck
from harness.errors import UserError
from tests.unit.capacity_points import law_points, point

GOAL = Objective()


def test_the_knee_is_the_last_load_that_met_the_objective() -> None:
    """The first load that missed it is told as well."""
    assert find_knee(law_points(), GOAL) == Knee(336, 400, "missed")


def test_a_slow_point_with_fast_ones_above_is_noise() -> None:
    """It is named, and does not end the search; two slow ones in a row are no noise."""
    slow = [point(25), point(50, p95=500), point(100), point(200, p95=600)]
    assert find_knee(slow, GOAL) == Knee(100, 200, "missed", (50,))
    twice = [point(25), point(50, p95=500), point(100, p95=700), point(200)]
    assert find_knee(twice, GOAL) == Knee(25, 50, "missed")


def test_a_generator_at_its_limit_is_no_knee() -> None:
    """What it could not load is not held against the workers; the words say so."""
    knee = find_knee([point(25), point(50), point(100, p95=900, unusable="late")], GOAL)
    assert knee == Knee(50, 100, "generator")
    assert "the generator could not load more" in knee.words


def test_errors_and_broken_guarantees_miss_the_objective() -> None:
    """A fast answer that is wrong, or that never came, is not capacity."""
    assert "errors 0.56 %" in GOAL.missed(point(100, errors=10))
    assert "tokens-exactly-once" in GOAL.missed(point(100, broken=("tokens-exactly-once",)))
    assert GOAL.missed(point(100, errors=1)) == ""


def test_no_load_that_met_it_is_said_to_be_no_knee() -> None:
    """Nothing is invented below the lowest load."""
    assert find_knee([point(25, p95=400)], GOAL) == Knee(None, 25, "missed")
    assert find_knee([], GOAL).words.startswith("not measured")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("p99=1.5s, errors=1%", Objective("p99", 1500, 0.01)),
        ("p50<=20ms", Objective("p50", 20, 0.001)),
        ("errors≤0%", Objective("p95", 300, 0)),
    ],
)
def test_objectives_are_read(text: str, wanted: Objective) -> None:
    """Either part may be left out."""
    assert Objective.parse(text) == wanted


@pytest.mark.parametrize("text", ["p95=300", "p42=1ms", "fast", "", "errors=1"])
def test_an_objective_that_is_none_is_refused(text: str) -> None:
    """The message shows what is expected."""
    with pytest.raises(UserError, match="p95=300ms"):
        Objective.parse(text)


@given(st.integers(3, 3000))
def test_the_search_finds_any_knee(capacity: int) -> None:
    """Eight to twelve loads enclose the knee, never trying one twice."""
    points: list[Point] = []
    for _ in range(14):
        users = next_load(points, GOAL)
        assert users not in {p.key.users for p in points}
        points.append(point(users, p95=40 if users <= capacity else 2000))
    knee = find_knee(points, GOAL)
    assert knee.users is not None
    assert knee.users <= capacity
    assert knee.above is not None
    assert capacity < knee.above
    assert knee.above / knee.users <= CLOSE or knee.above - knee.users <= 5


def test_the_search_stays_below_what_the_generator_can_load() -> None:
    """It does not climb beyond a load that the generator could not give."""
    points = [point(n) for n in (25, 50, 100)] + [point(200, unusable="full")]
    assert 100 < next_load(points, GOAL) < 200


def test_the_generators_side_as_bottleneck_is_said() -> None:
    """Late, full, without sockets or without operations: each with its reason."""
    chosen = Choices(cpus=CpuPlan((0,), (1,), 2))
    assert bottleneck(point(100), chosen) == ""
    for changes, words in (
        ({"late_ms": 90.0}, "90 ms late"),
        ({"load_cpu": 0.95}, "95 % of its processor"),
        ({"other_cpu": 0.97}, "0.97 of their 1 processors"),
        ({"sockets": 60}, "only 60 of 100 sockets"),
        ({"operations": 0}, "no operation"),
    ):
        assert words in bottleneck(point(100, **changes), chosen)


def test_processors_are_split_between_workers_and_the_rest() -> None:
    """Half of the machine is left to the rest; one processor is shared, and said to be."""
    assert split((0, 1), 2) == CpuPlan((0,), (1,), 2)
    assert split(tuple(range(8)), 2) == CpuPlan((0, 1), tuple(range(2, 8)), 8)
    alone = split((0,), 2)
    assert not alone.split
    assert "shared" in alone.words


def test_processor_lists_are_read_and_refused() -> None:
    """Ranges and lists; what is not there is named with what is."""
    assert parse("0-2,5", tuple(range(8)), "--worker-cpus") == (0, 1, 2, 5)
    with pytest.raises(UserError, match="processor 9 is not available"):
        parse("9", (0, 1), "--worker-cpus")
    with pytest.raises(UserError, match="such as 0-3,6"):
        parse("all", (0, 1), "--worker-cpus")
    with pytest.raises(UserError, match="a processor for each"):
        plan_cpus(",".join(map(str, _all())), None, 1)


def _all() -> tuple[int, ...]:
    from harness.capacity.cpus import allowed

    return allowed()
