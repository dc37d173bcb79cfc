"""The judge and the reader: order, damage, crashes, time-outs, selection, the saved judgement."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from harness.checks import all_checks
from harness.checks.base import Check, Facts, Finding
from harness.checks.judge import Judgement, judge_in_process, judge_run
from harness.deploy.folder import RunFolder
from harness.history.reader import CHUNK, HistoryError, read_history
from harness.history.records import Record
from harness.verdict import Verdict
from harness.vocabulary import GUARANTEES
from tests.unit.histories import History, healthy


def _write(
    folder: Path, source: str, times: list[float], tail: bytes = b"", **header: float
) -> None:
    head = {"t": 0.0, "k": "header", "source": source, "offset": 0.0, "error": 0.0, **header}
    lines = [orjson.dumps(r) for r in (head, *({"t": t, "k": "note", "text": ""} for t in times))]
    (folder / f"{source}.jsonl").write_bytes(b"\n".join(lines) + b"\n" + tail)


def _times(folder: Path) -> list[float]:
    return [record["t"] for record in read_history(folder) if record["k"] == "note"]


def test_files_are_merged_by_time(tmp_path: Path) -> None:
    """Records come by time across files, also where one file is out of order inside."""
    _write(tmp_path, "a", [1.0, 5.0, 3.0])
    _write(tmp_path, "b", [2.0, 4.0])
    assert _times(tmp_path) == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_a_long_file_is_sorted_across_chunks(tmp_path: Path) -> None:
    """A record that is late by less than half a chunk is put in its place."""
    times = [float(t) for t in range(3 * CHUNK)]
    times.insert(2 * CHUNK, times.pop(2 * CHUNK - 1000))
    _write(tmp_path, "a", times)
    assert _times(tmp_path) == sorted(times)


def test_the_offset_of_another_machine_is_applied(tmp_path: Path) -> None:
    """A file's offset moves its records onto the run's clock."""
    _write(tmp_path, "a", [1.0, 3.0])
    _write(tmp_path, "b", [1.0], offset=1.5)
    assert _times(tmp_path) == [1.0, 2.5, 3.0]


@pytest.mark.parametrize("tail", [b'{"t":9,"k":"no', b'{"t":9.0,"k":"note","text":""}'])
def test_a_cut_last_line_is_tolerated(tail: bytes, tmp_path: Path) -> None:
    """A writer that was killed leaves a line without its end; it does not count."""
    _write(tmp_path, "a", [1.0], tail)
    assert _times(tmp_path) == [1.0]


@pytest.mark.parametrize("line", [b"garbage", b"[]", b'{"k":"note"}', b'{"t":"1","k":"note"}'])
def test_damage_in_the_middle_names_file_and_line(line: bytes, tmp_path: Path) -> None:
    """Any other damage is an error that says where."""
    _write(tmp_path, "a", [1.0], line + b'\n{"t":2.0,"k":"note"}\n')
    with pytest.raises(HistoryError, match=r"a\.jsonl:3: expected"):
        list(read_history(tmp_path))


def test_a_file_needs_its_header(tmp_path: Path) -> None:
    """A file that does not begin with a header is refused."""
    (tmp_path / "a.jsonl").write_bytes(b'{"t":1.0,"k":"note"}\n')
    with pytest.raises(HistoryError, match=r"a\.jsonl:1: expected a header"):
        list(read_history(tmp_path))


def test_a_folder_without_history_is_refused(tmp_path: Path) -> None:
    """No file at all is an error, never an empty history that proves everything."""
    with pytest.raises(HistoryError, match="found none"):
        list(read_history(tmp_path))


def test_names_and_checks_agree() -> None:
    """The names that scenarios may use are those of the checks, each once."""
    assert [check.name for check in all_checks()] == list(GUARANTEES)
    assert len(set(GUARANTEES)) == len(GUARANTEES)


def test_a_saved_judgement_reads_back_equal(tmp_path: Path) -> None:
    """Nothing is lost between judgement.json and the judgement."""
    judgement = healthy().judge(tmp_path)
    assert Judgement.from_json(judgement.to_json()) == judgement


def test_statistics_count_operations(tmp_path: Path) -> None:
    """Outcomes and latencies are counted by operation."""
    h = healthy()
    h.op("rare", 20, took=0.5).op("rare", 21, outcome="fail")
    rare = h.judge(tmp_path).statistics["operations"]["rare"]
    assert (rare["ok"], rare["fail"], rare["info"]) == (1, 1, 0)
    assert rare["p50_ms"] == 500.0


def test_latency_is_corrected_and_raw_for_every_part_and_leaves_the_warm_up_out(
    tmp_path: Path,
) -> None:
    """Four reads were due while the target stalled: users queued, the wire saw one slow answer."""
    h = History(load={"soak": {"parts": 2}})
    h.op("rare", 0.5, took=1.5)
    for number, due in enumerate((10.0, 10.5, 11.0, 11.5)):
        sent = 12.0 if number else 10.0
        h.op("rare", due, took=12.1 - due, scheduled=due, sent=sent)
    h.op("rare", 30, took=0.1, scheduled=30.0)
    table = h.judge(tmp_path).statistics["latency"]
    rows = {row["part"]: row for row in table if row["op"] == "rare"}
    assert [(part, row["count"]) for part, row in rows.items()] == [
        ("all", 5),
        ("warm-up", 1),
        ("part 1", 4),
        ("part 2", 1),
    ]
    assert (rows["part 1"]["corrected"]["p50_ms"], rows["part 1"]["raw"]["p50_ms"]) == (1600, 100)
    assert (rows["part 1"]["corrected"]["max_ms"], rows["part 1"]["raw"]["max_ms"]) == (2100, 2100)
    assert rows["part 2"]["corrected"] == rows["part 2"]["raw"]


def test_damage_makes_the_run_unknown(tmp_path: Path) -> None:
    """A damaged history is judged unknown, with file and line."""
    judgement = healthy().judge(tmp_path, cut=b"garbage\n")
    assert judgement.verdict == Verdict.UNKNOWN
    assert "load-0.jsonl:" in judgement.findings[0].reason


class _Crashing(Check):
    name, family, sentence = "crashing", "tests", "It crashes."
    kinds = frozenset({"phase"})

    def __init__(self, when: str) -> None:
        self._when = when

    def feed(self, record: Record) -> None:
        if self._when == "feed":
            raise ZeroDivisionError(record["t"])

    def judge(self, facts: Facts) -> Finding:
        if self._when == "judge":
            raise ZeroDivisionError(facts.workers)
        return self.finding(Verdict.PASS)


@pytest.mark.parametrize("when", ["feed", "judge"])
def test_a_crashed_check_is_unknown(when: str, tmp_path: Path) -> None:
    """A check that crashes proves nothing: unknown, with the reason, and the others go on."""
    healthy().judge(tmp_path)
    judgement = judge_run(RunFolder(tmp_path), [_Crashing(when), *all_checks()])
    assert judgement.verdict == Verdict.UNKNOWN
    assert "check crashed: ZeroDivisionError" in judgement.findings[0].reason
    assert all(f.verdict == Verdict.PASS for f in judgement.findings[1:])


def test_an_operation_without_outcome_is_info(tmp_path: Path) -> None:
    """What never completed counts as unknown outcome, not as success or failure."""
    h = healthy().add("invoke", 20, id="open", op="rare", worker=0)
    rare = h.judge(tmp_path).statistics["operations"]["rare"]
    assert (rare["ok"], rare["info"]) == (0, 1)


def test_only_selected_guarantees_count(tmp_path: Path) -> None:
    """A scenario's selection leaves the others listed but not counted; coverage always counts."""
    h = healthy(guarantees=["deaf-time"])
    h.add("stall", 12, worker=0, ms=900.0, raw_ms=900.0)
    judgement = h.judge(tmp_path)
    assert judgement.verdict == Verdict.PASS
    counted = {f.name for f in judgement.findings if f.applicable}
    assert counted == {f.name for f in judgement.findings if f.family == "coverage"} | {"deaf-time"}


def test_a_lacking_capability_is_not_applicable(tmp_path: Path) -> None:
    """Guarantees that the target cannot keep are listed, not counted."""
    h = healthy()
    h.capabilities.remove("ready")
    found = {f.name: f for f in h.judge(tmp_path).findings}["ready-truthful"]
    assert not found.applicable
    assert "ready" in found.reason


def test_an_expected_failure_is_as_expected(tmp_path: Path) -> None:
    """A regression scenario that expects red is as expected when it is red."""
    h = healthy(expected="fail").add("stall", 12, worker=0, ms=900.0, raw_ms=900.0)
    judgement = h.judge(tmp_path)
    assert (judgement.verdict, judgement.outcome) == (Verdict.FAIL, "as_expected")


async def test_the_bounded_process_judges_alike(tmp_path: Path) -> None:
    """The judge's own process comes to the same judgement and saves it."""
    here = healthy().judge(tmp_path)
    there = await judge_in_process(RunFolder(tmp_path), 30)
    assert there == here
    assert Judgement.from_json((tmp_path / "judgement.json").read_bytes()) == here


async def test_running_out_of_time_is_unknown(tmp_path: Path) -> None:
    """A judge that takes too long is ended; the run is unknown and says so."""
    healthy().judge(tmp_path)
    judgement = await judge_in_process(RunFolder(tmp_path), 0.01)
    assert judgement.verdict == Verdict.UNKNOWN
    assert "ran out of time" in judgement.findings[0].reason
