"""The plan is a function of scenario and seed, and nothing else."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.choices import Choices
from harness.plan import Plan, load_seconds, make_plan
from harness.scenario import Scenario


def _scenario(**changes: object) -> Scenario:
    return Scenario.model_validate(
        {
            "name": "one",
            "story": "A scenario for the tests of the plan.",
            "topology": "sentinel",
            "faults": [{"kind": "kill", "target": "primary", "at": 5, "for_s": 4}],
            **changes,
        }
    )


@settings(max_examples=10)
@given(st.integers(0, 10**6))
def test_same_seed_same_bytes(seed: int) -> None:
    """Two plans of one seed are the same file, byte for byte, and survive a round trip."""
    first, second = make_plan(_scenario(), seed), make_plan(_scenario(), seed)
    assert first.to_json() == second.to_json()
    assert Plan.from_json(first.to_json()) == first


def test_another_seed_is_another_timetable() -> None:
    """The seed decides when and by whom things are done."""
    assert make_plan(_scenario(), 1).timetable != make_plan(_scenario(), 2).timetable


@given(st.integers(0, 100), st.integers(0, 100), st.integers(1, 50))
def test_a_choice_depends_on_its_number_not_on_order(seed: int, user: int, k: int) -> None:
    """A user's k-th choice is the same however many choices were made before."""
    taken = Choices(seed, user)
    drawn = [taken.next() for _ in range(k)]
    assert Choices(seed, user).at(k) == drawn[-1]
    assert all(0 <= value < 1 for value in drawn)


def test_focus_surrounds_the_fault_and_ends_with_the_load() -> None:
    """Focus runs from 2 s before the fault until 10 s after its heal, cut at the load's end."""
    scenario = _scenario(duration_s=12)
    plan = make_plan(scenario, 1)
    assert plan.focus == ((5.0, load_seconds(scenario)),)


def test_overlapping_focus_windows_become_one() -> None:
    """Two faults close together share one focus window."""
    faults = [
        {"kind": "kill", "target": "primary", "at": 3, "for_s": 1},
        {"kind": "pause", "target": "primary", "at": 6, "for_s": 1},
    ]
    plan = make_plan(_scenario(faults=faults, duration_s=30), 1)
    assert plan.focus == ((3.0, 19.0),)


def test_signed_out_tokens_are_looked_at_again_only_where_a_scenario_asks() -> None:
    """The looks are steps of their own: asking for them moves no other step."""
    without = make_plan(_scenario(), 1).timetable
    focus = {"token_looks_per_s": 2}
    asked = make_plan(_scenario(focus=focus), 1).timetable
    assert not [step for step in without if step.do == "token_look"]
    assert [step for step in asked if step.do == "token_look"]
    assert [step for step in asked if step.do != "token_look"] == list(without)


def test_without_faults_the_whole_measured_part_is_focus() -> None:
    """A baseline is judged on all of its load but the warm-up."""
    plan = make_plan(_scenario(faults=[], warmup_s=2, duration_s=10), 1)
    assert plan.focus == ((2, 12),)


def test_stops_are_spread_over_the_focus_at_the_rate_asked_for() -> None:
    """Each slot of the rate has one arrival, so no second of the focus is empty."""
    plan = make_plan(_scenario(duration_s=30), 3)
    (start, end), stops = plan.focus[0], [s.t for s in plan.timetable if s.do == "stop"]
    assert len(stops) == int((end - start) * 20)
    for second in range(int(start), int(end)):
        assert sum(second <= t < second + 1 for t in stops) >= 18
