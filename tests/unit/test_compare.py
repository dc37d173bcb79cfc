"""Comparisons: what counts, what is dropped, and that chance is not taken for a change."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from harness.cli import invoke
from harness.compare.baseline import Baseline, find_baseline, path_of
from harness.compare.bench import in_turns
from harness.compare.ratios import ALL, DRIFT, compare
from harness.compare.rounds import Round, RoundFold
from harness.compare.sides import other_side, this_side
from harness.compare.verdict import Change, judge
from harness.compare.words import answer, how
from harness.errors import UserError
from harness.options import RunOptions
from harness.verdict import ExitCode
from tests.unit.compare_rounds import SECONDS, baseline, drawn_pair, made_pair, made_round, recorded

TWO_MEANS = (1.0, 3.0)  # of the load: it lasts two whole seconds


def op(name: str, t: float, took: float | None, **more: Any) -> list[dict[str, Any]]:
    """Return the records of one operation; without `took` it is never answered."""
    key = f"{name}-{t}"
    asked = {"k": "invoke", "id": key, "op": name, "t": t, **more}
    return [asked, {"k": "ok", "id": key, "op": name, "t": t + took}] if took else [asked]


def history(*operations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return records by time, with the measured part from 1 to 3 s."""
    names = zip(("load", "quiesce"), TWO_MEANS, strict=True)
    records = [{"k": "phase", "name": name, "t": t} for name, t in names]
    records += [{"k": "sample", "probe": "load", "late_ms": ms, "t": ms / 2} for ms in (1.0, 3.0)]
    return sorted([*records, *itertools.chain(*operations)], key=lambda record: record["t"])


def test_a_round_counts_from_when_an_operation_was_due() -> None:
    """By seconds; not those of the warm-up, nor the instruments'; no answer is an error."""
    fields = (
        RoundFold()
        .feed(
            history(
                op("me", 0.5, 0.1),
                op("me", 1.7, 0.2, scheduled=1.5),
                op("me", 2.9, 0.2),
                op("connect", 1.1, 0.1),
                op("stop", 2.5, None),
            )
        )
        .finish()
    )
    assert fields["latencies"] == {"me": [[400.0], [200.0]]}
    assert fields["answered"] == [1, 0]
    assert fields["errors"] == 1
    assert fields["late_ms"] == 3.0


def test_the_worst_seconds_are_dropped() -> None:
    """One of 16: the slowest beside the operations' own medians; silence is worse than slowness."""
    seconds = [[10.0, 11.0] for _ in range(SECONDS)]
    slow = {"me": [*seconds[:-1], [900.0]], "stop": [[1.0]] * SECONDS}
    one = Round(0, 0.0, latencies=slow, answered=[3] * SECONDS)
    assert one.kept == list(range(SECONDS - 1))
    silent = Round(0, 0.0, latencies={"me": [[], *slow["me"][1:]]}, answered=[3] * SECONDS)
    assert silent.kept == list(range(1, SECONDS))


def test_a_planted_ratio_is_found_with_its_size() -> None:
    """Twice as long is twice, though the machine's speed wanders tenfold between rounds."""
    found = judge(*made_pair(1, slower=2.0))
    rows = {row.metric: row for row in found.ratios.rows}
    for row in (rows[ALL, "p50"], rows["me", "p50"]):
        assert row.low < 2 < row.high
        assert row.ratio == pytest.approx(2, rel=0.15)
    assert found.exit_code is ExitCode.NOT_AS_EXPECTED
    assert "BEYOND THE GATE of 1.25x: worse: " in answer(found)
    assert ("stop", "p99") not in rows  # too few for that tail


def test_two_sides_that_are_the_same_do_not_differ() -> None:
    """Of recorded runs, in at least 99 of 100 comparisons: no change, and never unknown."""
    found = [judge(*drawn_pair(seed)) for seed in range(100)]
    same = [not one.of(Change.WORSE, Change.BETTER) and not one.blind for one in found]
    assert sum(same) >= 99


def test_single_runs_of_the_same_side_do_not_differ() -> None:
    """Recorded at different times on a machine that was up to eight times as busy."""
    runs = itertools.groupby(recorded(), key=lambda one: one.load)
    pairs = [pair for _, same in runs for pair in itertools.combinations(list(same), 2)]
    assert len(pairs) > 20
    changed = [pair for pair in pairs if judge(*pair).of(Change.WORSE, Change.BETTER)]
    assert not changed


def test_noise_is_not_taken_for_a_change() -> None:
    """Where neighbouring runs differ by half, it is said that nobody can tell."""
    found = [judge(*made_pair(seed, noise=0.4)) for seed in range(30)]
    assert not [one for one in found if one.of(Change.WORSE, Change.BETTER)]
    assert {one.exit_code for one in found} == {ExitCode.UNKNOWN}


def test_a_slowdown_of_30_percent_is_found() -> None:
    """Planted in recorded runs: worse, and beyond the gate, in at least 19 of 20."""
    found = [judge(*drawn_pair(seed, slower=1.3)) for seed in range(20)]
    assert sum(bool(one.of(Change.WORSE)) for one in found) >= 19
    assert sum(one.exit_code is ExitCode.NOT_AS_EXPECTED for one in found) >= 19


def test_a_pair_between_which_the_machine_changed_is_left_out() -> None:
    """The generator's own lateness tells; the report says how many."""
    a, b = made_pair(1)
    busy = replace(b.rounds[0], late_ms=9.0)
    found = judge(a, replace(b, rounds=(busy, *b.rounds[1:])))
    assert (found.ratios.rounds, found.ratios.unsteady) == (11, 1)
    assert "the machine changed between their two runs: 1 pair" in how(found)


def test_an_improvement_is_no_failure() -> None:
    """B is A's other way round."""
    a, b = made_pair(3, slower=2.0)
    found = judge(b, a)
    assert found.exit_code is ExitCode.AS_EXPECTED
    assert "WITHIN THE GATE of 1.25x: better: " in answer(found)


def test_different_times_are_said_and_widen() -> None:
    """What is sharp when measured in turns is not when the machine may have changed meanwhile."""
    a, b = made_pair(1, slower=1.5)
    apart = judge(a, replace(b, session="another"))
    assert judge(a, b).exit_code is ExitCode.NOT_AS_EXPECTED
    assert "in turns: 12 pairs" in how(judge(a, b))
    assert apart.exit_code is ExitCode.UNKNOWN
    assert not apart.of(Change.WORSE, Change.BETTER)
    assert "at different times" in how(apart)
    assert apart.ratios.drift >= DRIFT


def test_single_runs_show_only_large_changes() -> None:
    """Seconds are drawn again; what rounds would differ by is assumed."""
    rng = np.random.default_rng(0)
    a = baseline("a", [made_round(0, rng, 1.0)])
    near, far = (baseline("b", [made_round(0, rng, 1.0, s)]) for s in (1.3, 12.0))
    assert judge(a, near).exit_code is ExitCode.UNKNOWN
    assert judge(a, far).exit_code is ExitCode.NOT_AS_EXPECTED
    assert compare(a, far).drift == DRIFT


def test_rounds_in_which_the_generator_was_ill_are_left_out_in_pairs() -> None:
    """Neither side of such a pair counts, and without pairs nothing can be said."""
    a, b = made_pair(1)
    ill = [replace(one, unusable="late") for one in b.rounds]
    assert compare(a, replace(b, rounds=(*b.rounds[1:], ill[0]))).rounds == 11
    found = judge(a, replace(b, rounds=tuple(ill)))
    assert found.exit_code is ExitCode.UNKNOWN
    assert "no usable round of `b`: late" in answer(found)
    assert "12 unusable rounds are left out: late" in how(found)


def test_fast_failures_are_not_fast() -> None:
    """More errors are a change for the worse, whatever the latencies say."""
    a, b = made_pair(2)
    found = judge(a, replace(b, rounds=tuple(replace(one, errors=40) for one in b.rounds)))
    assert found.exit_code is ExitCode.NOT_AS_EXPECTED
    assert "operations failed, before 0 of" in answer(found)


def test_the_throughput_is_worse_when_it_is_less() -> None:
    """A ratio below 1 of answers a second is a slowdown."""
    a, b = made_pair(4)
    half = tuple(replace(one, answered=[n // 2 for n in one.answered]) for one in b.rounds)
    found = judge(a, replace(b, rounds=half))
    assert [row.metric for row in found.beyond] == [(ALL, "throughput")]


def test_order_is_turned_round_after_round() -> None:
    """A B, B A: a machine that slows down steadily hits both alike."""
    assert list(in_turns(["a", "b"], 3)) == [*turn(0, "ab"), *turn(1, "ba"), *turn(2, "ab")]


def turn(number: int, names: str) -> list[tuple[int, str]]:
    """Return one round."""
    return [(number, name) for name in names]


def save(side: Baseline, reports: Path) -> None:
    """Save under the side's own name."""
    side.save(path_of(side.name, reports))


def test_a_baseline_is_read_as_it_was_saved(tmp_path: Path) -> None:
    """By name and by path."""
    a, _ = made_pair(1, 2)
    save(a, tmp_path)
    assert find_baseline("a", tmp_path) == a
    assert find_baseline(str(path_of("a", tmp_path)), tmp_path) == a


@pytest.mark.parametrize(("slower", "code"), [(1.0, 0), (2.0, 1)])
def test_the_command_exits_by_the_gate(
    slower: float, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints every metric; a larger gate lets more through."""
    for side in made_pair(1, slower=slower):
        save(side, tmp_path)
    assert invoke(["compare", "a", "b", "--reports", str(tmp_path)]) == code
    said = capsys.readouterr().out
    assert "me p50" in said
    assert "throughput" in said
    assert invoke(["compare", "a", "b", "--reports", str(tmp_path), "--gate", "3"]) == 0


def test_mistakes_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each with what was expected; exit code 3."""
    a, b = made_pair(1, 2)
    save(a, tmp_path)
    save(replace(b, load="another"), tmp_path)
    path_of("old", tmp_path).write_bytes(orjson.dumps({"schema": 0}))
    path_of("broken", tmp_path).write_text("{}")
    for words, said in {
        ("a", "nosuch"): "Baselines: a, b, broken, old",
        ("a", "b"): "different loads",
        ("a", "old"): "expected schema 1, got 0",
        ("a", "broken"): "expected a file that `harness bench --save` made",
        ("a", "a", "--gate", "0.8"): "expected a factor above 1",
    }.items():
        assert invoke(["compare", *words, "--reports", str(tmp_path)]) == ExitCode.USER_ERROR
        assert said in capsys.readouterr().err


def test_the_other_side_is_a_target_a_version_or_a_command() -> None:
    """It takes over the load's choices, and only for a version also what runs."""
    ours = RunOptions(users=7, target="open-webui==0.12.4")
    assert this_side(ours).label == "open-webui==0.12.4"
    stock = other_side("stock", ours).options
    assert (stock.target, stock.users) == ("stock", 7)
    pinned = other_side("redis==7.4.0", ours).options
    assert (pinned.target, list(map(str, pinned.pins))) == ("open-webui==0.12.4", ["redis==7.4.0"])
    command = other_side("command:python -m tests.slower", ours).options
    assert (command.target, command.target_command) == (None, "python -m tests.slower")
    with pytest.raises(UserError, match="--against nosuch: expected a target"):
        other_side("nosuch", ours)
