"""The fold that turns a history into what the report draws."""

from __future__ import annotations

from typing import Any

import pytest
from report_run import DEAF_UNTIL, HEAL, KILL, ORIGIN, SWITCH, judgement, write_run

from harness.deploy.folder import RunFolder
from harness.report import series as series_module
from harness.report.axis import MAX_CELLS, Axis
from harness.report.saved import fold
from harness.report.series import Operation, Series, SeriesFold, error_code, origin_of


def folded(*records: dict[str, Any], wanted: tuple[str, ...] = ()) -> Series:
    """Fold records given as dictionaries."""
    folding = SeriesFold(0.0, wanted)
    for record in records:
        folding.feed(record)
    return folding.finish()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Return a synthetic run with the planted violation."""
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def drawn(run: RunFolder) -> Series:
    """Return what the report draws of it."""
    return fold(run, judgement())


def test_load_time_starts_at_warmup(run: RunFolder, drawn: Series) -> None:
    """Load second 0 is the start of warm-up, whatever the run's base is."""
    assert drawn.origin == ORIGIN
    assert drawn.start == 0
    assert drawn.load_end == pytest.approx(26)


def test_deaf_time_spans_lost_canaries(drawn: Series) -> None:
    """A worker whose canaries are lost is deaf from the first lost one until it hears again."""
    [deaf] = drawn.deaf[2]
    assert deaf.start == pytest.approx(KILL + 0.25)
    assert deaf.end == pytest.approx(DEAF_UNTIL + 0.15, abs=0.01)
    assert deaf.label == "w0, w1, w2"


def test_deaf_time_spans_late_canaries(drawn: Series) -> None:
    """A canary that arrives late makes its worker deaf from its posting until its arrival."""
    [deaf] = drawn.deaf[0]
    assert deaf.start == pytest.approx(KILL + 0.25)
    assert deaf.end == pytest.approx(SWITCH + 0.4)


def test_punctual_canaries_are_not_deaf_time() -> None:
    """A canary within half a second is no deaf time."""
    posted = {"t": 1.0, "k": "invoke", "id": "a", "op": "event_post", "n": 0, "origin": 0}
    heard = {"t": 1.4, "k": "canary", "event": "heard", "origin": 0, "at": 1, "n": 0, "sent": 1.0}
    assert folded(posted, heard).deaf[1] == []


def test_fault_bar_ends_at_heal(drawn: Series) -> None:
    """A fault's bar reaches from injection to heal and carries all evidence."""
    [fault] = drawn.faults
    assert (fault.start, fault.end) == (KILL, HEAL)
    assert fault.label == "kill primary → redis-0"
    assert fault.detail == "process 4711 was killed; answers PING"


def test_failed_fault_is_told_as_error() -> None:
    """A fault that could not be injected stands in the story as an error with its text."""
    series = folded(
        {
            "t": 1.0,
            "k": "fault",
            "id": "f0",
            "event": "error",
            "kind": "cut",
            "text": "inject: no links",
        }
    )
    assert series.story[0].kind == "error"
    assert "no links" in series.story[0].label


def test_roles_follow_each_other(drawn: Series) -> None:
    """A node's roles are stretches that end where the next begins."""
    roles = [(bar.kind, bar.start, round(bar.end or 0, 6)) for bar in drawn.roles["redis-0"]]
    assert roles[:2] == [("master", -3, KILL), ("down", KILL, HEAL + 0.4)]


def test_unanswered_operation_counts_as_info() -> None:
    """An operation without an outcome is nobody-knows, never left out."""
    series = folded({"t": 1.2, "k": "invoke", "id": "a", "op": "stop"})
    assert series.outcomes[2]["info"] == 1
    assert series.totals["stop", "info"] == 1
    assert series.errors["info", "no answer recorded"][2] == 1


def test_latency_counts_from_schedule() -> None:
    """An open-loop operation that was sent late has the latency since its scheduled start."""
    series = folded(
        {"t": 2.0, "k": "invoke", "id": "a", "op": "me", "scheduled": 1.5},
        {"t": 2.1, "k": "ok", "id": "a", "op": "me"},
    )
    assert series.quantile(4, 0.5) == pytest.approx(600)


def test_failures_have_no_latency() -> None:
    """Fast failures must not make latency look good."""
    series = folded(
        {"t": 2.0, "k": "invoke", "id": "a", "op": "me"},
        {"t": 2.1, "k": "fail", "id": "a", "op": "me", "error": "http_503"},
    )
    assert series.quantile(4, 0.5) is None
    assert series.errors["fail", "http_503"] == {4: 1}


def test_wanted_operation_is_kept_whole(drawn: Series) -> None:
    """An operation that an example names is kept with arguments, result and times."""
    [stop] = drawn.wanted["planted-stop"]
    assert isinstance(stop, Operation)
    assert (stop.sent, stop.done, stop.outcome) == (pytest.approx(9.0), pytest.approx(9.2), "ok")
    assert stop.args == {"stream": "s77", "by": "task", "outlives": True}
    assert stop.result == {"state": "requested"}


def test_wanted_stream_keeps_its_records() -> None:
    """An example may name a stream: its provider records and operations are kept."""
    series = folded(
        {"t": 1.0, "k": "invoke", "id": "a", "op": "stop", "stream": "s1"},
        {"t": 1.1, "k": "stream", "stream": "s1", "event": "close", "cause": "finished"},
        {"t": 1.2, "k": "stream", "stream": "s2", "event": "close"},
        wanted=("s1",),
    )
    assert len(series.wanted["s1"]) == 2


def test_unexpected_exit_is_told() -> None:
    """A process that ended by itself stands in the story; an expected end does not."""
    series = folded(
        {"t": 1.0, "k": "exit", "name": "w1", "status": -11, "expected": False},
        {"t": 1.0, "k": "exit", "name": "redis-0", "status": -9, "expected": True},
    )
    assert [mark.label for mark in series.story] == ["w1 ended by itself: -11"]


def test_points_are_capped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples beyond the cap are not kept, but counted, so that the picture can say so."""
    monkeypatch.setattr(series_module, "MAX_DRAWN", 3)
    stalls = [{"t": float(n), "k": "stall", "worker": 0, "ms": 1, "raw_ms": 1} for n in range(5)]
    points = folded(*stalls).stalls[0]
    assert (len(points.t), points.total) == (3, 5)


def test_origin_reads_no_further_than_warmup() -> None:
    """Finding load second 0 does not read a long history to its end."""

    def records() -> Any:
        yield {"t": 1.0, "k": "phase", "name": "deploy"}
        yield {"t": 4.0, "k": "phase", "name": "warmup"}
        raise AssertionError("read on")

    assert origin_of(records()) == 4.0


def test_long_run_merges_cells() -> None:
    """A run of an hour is drawn with at most the allowed number of cells."""
    axis = Axis.of(Series(end=3600.0))
    assert axis.cells <= MAX_CELLS
    assert axis.cell_of(3599.9) == axis.cells - 1


def test_error_codes() -> None:
    """Errors are named by code, whether recorded as text or as a mapping."""
    assert error_code("timeout") == "timeout"
    assert error_code({"code": "http_503", "text": "…"}) == "http_503"
    assert error_code(None) == "unnamed"
