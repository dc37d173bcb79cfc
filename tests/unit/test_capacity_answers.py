"""Memory, connections, predictions and pools, from planted points."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from harness.capacity import words
from harness.capacity.answers import (
    DatabaseNeed,
    Scaling,
    Series,
    make_series,
    maxclients,
    scaling,
    slope,
)
from harness.capacity.cpus import CpuPlan
from harness.capacity.objective import Objective
from harness.capacity.points import Key, Point, PointFold
from harness.capacity.report import Results, write
from harness.capacity.sweep import Choices, Sweep, failover_key
from harness.targets.runtime import RuntimeTarget
from harness.verdict import ExitCode
from runtime.storage.engine import READERS
from tests.unit.capacity_points import KIB_PER_USER, WORKER_MIB, law_points, point

GOAL = Objective()
TWO = CpuPlan((0,), (1,), 2)


def _series(workers: int) -> Series:
    return make_series("standalone", workers, law_points(workers), GOAL, TWO)


def test_memory_is_a_slope_over_users_and_a_base_per_worker() -> None:
    """Planted 40 KiB a user and 90 MiB a worker come back."""
    line = _series(2).memory
    assert line is not None
    assert line.per_unit == pytest.approx(KIB_PER_USER * 1024)
    assert line.base == pytest.approx(2 * WORKER_MIB << 20)
    assert "40 KiB for each connected" in words.memory(_series(2))


def test_a_slope_within_noise_is_said_to_be_noise() -> None:
    """An interval that reaches 0 is no figure to plan with; three points are no line."""
    noise = [100, 130, 90, 120, 100, 95]
    flat = [point(25 * (n + 1), worker_rss=float(rss << 20)) for n, rss in enumerate(noise)]
    series = make_series("standalone", 1, flat, GOAL, TWO)
    assert "noise" in words.memory(series)
    assert slope([(1, 1), (2, 2), (3, 3)]) is None


def test_the_law_is_fitted_and_thin_data_is_refused() -> None:
    """λ 1 and σ 0.002 come back; five points are refused in words."""
    fitted = _series(1).law
    assert fitted is not None
    assert fitted.lam.value == pytest.approx(1, rel=0.01)
    assert fitted.sigma.value == pytest.approx(0.002, rel=0.05)
    thin = make_series("standalone", 1, law_points()[:5], GOAL, TWO)
    assert thin.law is None
    assert "at least 6 different concurrencies, got 5" in words.law(thin)


def test_points_that_were_not_used_are_not_fitted() -> None:
    """Eight points of which three are unusable are five."""
    points = [
        *law_points()[:5],
        *(point(n, unusable="late", operations_per_s=1.0) for n in (900, 1000, 1100)),
    ]
    series = make_series("standalone", 1, points, GOAL, TWO)
    assert "got 5" in series.refusal


def test_users_over_workers_follow_processor_time() -> None:
    """Planted: an operation costs 20 % more with every further worker, so σ over workers is 0.2."""
    growth = scaling([_series(1), _series(2)])
    assert growth is not None
    assert growth.sigma == pytest.approx(0.2, rel=0.05)
    assert growth.users(1) == 336
    assert growth.users(2) == pytest.approx(2 * 336 / 1.2, rel=0.02)
    assert growth.redis_users == pytest.approx(2000)


def test_a_prediction_is_never_below_what_was_measured() -> None:
    """Workers that shared a processor carry no fewer users with one each."""
    growth = Scaling(100, 1.0, None, {2: 150})
    assert growth.users(2) == 150
    assert growth.users(3) == 100


def test_one_number_of_workers_predicts_nothing() -> None:
    """Nor does a sweep without a single worker."""
    assert scaling([_series(1)]) is None
    assert scaling([_series(2)]) is None


def test_the_best_number_of_workers_ends_where_a_further_one_hardly_pays() -> None:
    """No cost: as far as one looks; a cost, or a full Redis, ends it."""
    assert Scaling(100, 0.0, None).best == 16
    assert Scaling(100, 0.1, None).best < 8
    assert Scaling(100, 0.0, 350).best == 4  # the fourth adds half of one's users


def test_shared_processors_are_said_to_be_shared() -> None:
    """Two workers on one processor tell nothing about a second processor."""
    assert not _series(2).own_processors
    assert "what sharing costs" in words.users_per_worker(_series(2))
    assert "predicted" in words.best_workers(
        [_series(1), _series(2)], scaling([_series(1), _series(2)]), TWO
    )


def test_connections_and_pools_are_for_a_rolling_restart() -> None:
    """Old and new workers at once: twice the connections, and some for others."""
    assert maxclients(4, 5) == 2 * 4 * 5 + 50
    need = DatabaseNeed(pool=5, overflow=10, most=100)
    assert need.needed(2) == 60
    assert need.workers == 3


def test_the_targets_pool_is_the_runtimes_own() -> None:
    """The harness does not import the runtime, so its number is pinned here."""
    assert RuntimeTarget.database_pool == (READERS + 1, 0)


def test_the_failover_is_tried_at_a_share_of_the_greatest_knee() -> None:
    """With the most workers that have a knee; without one it is not tried."""
    chosen = Choices(failover=0.5)
    points = law_points(1) + law_points(2)
    assert failover_key(chosen, points) == Key("sentinel", 2, 168)
    assert failover_key(chosen, law_points(1)) == Key("sentinel", 1, 168)
    assert failover_key(chosen, []) is None


def test_a_point_counts_only_what_was_due_in_the_measured_part() -> None:
    """Warm-up and instruments are left out; unanswered is an error; latency counts from due."""
    records = [
        {"k": "invoke", "t": 1.0, "id": "a", "op": "me"},
        {"k": "ok", "t": 1.5, "id": "a", "op": "me"},
        {"k": "phase", "t": 2.0, "name": "load"},
        {"k": "invoke", "t": 2.5, "id": "b", "op": "me", "scheduled": 2.1},
        {"k": "ok", "t": 2.6, "id": "b", "op": "me"},
        {"k": "invoke", "t": 2.7, "id": "c", "op": "chat_start"},
        {"k": "fail", "t": 2.8, "id": "c", "op": "chat_start"},
        {"k": "invoke", "t": 2.9, "id": "d", "op": "event_post"},
        {"k": "invoke", "t": 3.0, "id": "e", "op": "me"},
        {"k": "run", "t": 3.1, "first": 4, "last": 9},
        {"k": "phase", "t": 4.0, "name": "quiesce"},
        {"k": "run", "t": 4.1, "first": 10, "last": 19},
    ]
    values = PointFold().feed(records).finish()
    assert values["operations"] == 3
    assert values["errors"] == 2
    assert values["operations_per_s"] == 0.5
    assert values["tokens_per_s"] == 3
    assert values["latency_ms"]["p95"] == pytest.approx(500)


def test_other_programs_on_the_machine_are_told_of() -> None:
    """What is not of the run is the machine's time less the run's; a quiet machine is no news."""
    sample = {"k": "sample", "probe": "process", "rss": 1}
    records = [
        {"k": "phase", "t": 1.0, "name": "load"},
        {**sample, "t": 2.0, "name": "machine", "cpu": 1.9},
        {**sample, "t": 2.0, "name": "redis-0", "cpu": 0.2},
        {**sample, "t": 2.0, "name": "load-0", "cpu": 0.3},
        {"k": "phase", "t": 4.0, "name": "quiesce"},
    ]
    values = PointFold().feed(records).finish()
    assert values["foreign_cpu"] == pytest.approx(1.4)
    assert (values["redis_cpu"], values["load_cpu"]) == (0.2, 0.3)
    assert words.foreign([_series(1)], TWO) == ""
    busy = [point(n, foreign_cpu=1.4) for n in (25, 50)]
    series = make_series("standalone", 1, busy, GOAL, TWO)
    assert "Other programs used 1.4 of the machine's 2 processors" in words.foreign([series], TWO)


def _results(folder: Path, points: list[Point], interrupted: bool = False) -> Results:
    text = b"".join(orjson.dumps(p.to_json()) + b"\n" for p in points)
    (folder / "points.jsonl").write_bytes(text + b'{"key": {"topol')  # cut by SIGKILL
    chosen = Choices(cpus=TWO)
    need = DatabaseNeed(4, 0, 100)
    sweep = Sweep(chosen, folder, lambda _: None)
    return Results(chosen, sweep, need, "runtime", "harness capacity", interrupted)


def test_a_whole_sweep_makes_a_page_and_a_file(tmp_path: Path) -> None:
    """Exit code 0; the page has all pictures and the paragraph, the file every point."""
    results = _results(tmp_path, law_points(1) + law_points(2))
    page = write(results).read_text()
    assert results.exit_code == ExitCode.AS_EXPECTED
    assert page.count("<svg") == 6
    assert "Plan with 252 concurrent users a worker" in page
    assert "src=" not in page
    data = orjson.loads((tmp_path / "capacity.json").read_bytes())
    assert [len(series["points"]) for series in data["series"]] == [8, 8]
    assert data["series"][0]["knee"]["users"] == 336
    assert data["scaling"]["standalone"]["predicted_users"]["1"] == 336


@pytest.mark.parametrize(("interrupted", "code"), [(True, 130), (False, 2)])
def test_a_partial_sweep_is_reported_with_what_is_missing(
    tmp_path: Path, interrupted: bool, code: int
) -> None:
    """Three points make a page; what is missing is told in words."""
    results = _results(tmp_path, law_points()[:3], interrupted)
    page = write(results).read_text()
    assert results.exit_code == code
    assert "No law for standalone, 1 worker" in page
    assert ("Interrupted after 3 of 16 points" in page) == interrupted
