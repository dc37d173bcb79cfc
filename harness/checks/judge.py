"""Judges a saved run: one pass over its history feeds every check; the worst finding decides.

`python -m harness.checks.judge RUN` judges in a process of its own and writes judgement.json.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from harness.checks import all_checks
from harness.checks.base import Check, Example, Facts, FaultFact, Finding, Window
from harness.checks.facts import KINDS, FactsFold, RunFacts
from harness.checks.latency import WHOLE, Latencies
from harness.checks.parts import void
from harness.deploy.folder import RunFolder
from harness.expectation import PASSES, Expectation
from harness.history.reader import HistoryError, read_history
from harness.history.records import COMPLETIONS, INFO, INVOKE, NO_OUTCOME, Record
from harness.targets.base import PROCESSES, PROVIDER
from harness.verdict import Verdict, worst
from harness.vocabulary import LOADS, TRACED

OPERATION_KINDS = COMPLETIONS | {INVOKE}
COVERAGE = "coverage"
_LACKING = {
    PROVIDER: "the answers do not come from the harness's provider",
    PROCESSES: "the workers' processes are not the harness's to look into",
}


@dataclass
class Judgement:
    """What the evidence of a run says."""

    verdict: Verdict
    expected: Verdict
    outcome: str  # as_expected or not_as_expected
    findings: list[Finding]
    facts: Facts | None = None
    statistics: dict[str, Any] = field(default_factory=dict)
    surprise: str = ""  # how a red run differs from the red one that is expected
    aborted: str = ""  # why the load was ended early, by --abort-on

    def to_json(self) -> bytes:
        """Return the bytes of judgement.json."""
        raw = asdict(self)
        if self.facts is not None:
            raw["facts"]["capabilities"] = sorted(self.facts.capabilities)
        return orjson.dumps(raw, option=orjson.OPT_INDENT_2)

    @classmethod
    def from_json(cls, data: bytes) -> Judgement:
        """Read judgement.json back."""
        raw = orjson.loads(data)
        return cls(
            verdict=Verdict(raw["verdict"]),
            expected=Verdict(raw["expected"]),
            outcome=raw["outcome"],
            findings=[_finding(finding) for finding in raw["findings"]],
            facts=None if raw["facts"] is None else _facts(raw["facts"]),
            statistics=raw["statistics"],
            surprise=raw.get("surprise", ""),  # a run of an earlier version has none
            aborted=raw.get("aborted", ""),
        )


def _finding(raw: dict[str, Any]) -> Finding:
    examples = [Example(**example) for example in raw["examples"]]
    return Finding(**{**raw, "verdict": Verdict(raw["verdict"]), "examples": examples})


def _facts(raw: dict[str, Any]) -> RunFacts:
    changed = {
        "load": Window(**raw["load"]),
        "focus": tuple(Window(**window) for window in raw["focus"]),
        "faults": tuple(map(_fault, raw["faults"])),
        "boot": tuple(map(_fault, raw["boot"])),
        "switches": tuple(raw["switches"]),
        "capabilities": frozenset(raw["capabilities"]),
        "planned": tuple(raw["planned"]),
        "redis_addresses": tuple(raw.get("redis_addresses", ())),
        "parts": tuple((name, start, end) for name, start, end in raw["parts"]),
    }
    return RunFacts(**{**raw, **changed})


def _fault(raw: dict[str, Any]) -> FaultFact:
    changed = {
        "window": Window(**raw["window"]),
        "nodes": tuple(raw["nodes"]),
        "workers": tuple(raw["workers"]),
    }
    return FaultFact(**{**raw, **changed})


class _Statistics:
    """Counts of records and operations, latency per operation and part of the load."""

    def __init__(self) -> None:
        self.records = 0
        self._outcomes: dict[str, Counter[str]] = defaultdict(Counter)
        self._latencies = Latencies()

    def operation(self, record: Record) -> None:
        """Take a completion."""
        self._outcomes[record["op"]][record["k"]] += 1
        if record["k"] == "ok":
            self._latencies.take(record)

    def finish(self, facts: RunFacts) -> dict[str, Any]:
        """Return what goes into the judgement. Latencies are corrected, and without warm-up."""
        table = self._latencies.table(facts.load.start, facts.parts)
        whole = {row["op"]: row["corrected"] for row in table if row["part"] == WHOLE}
        operations = {
            op: {kind: outcomes[kind] for kind in ("ok", "fail", "info")}
            | {f"p{q}_ms": whole[op][f"p{q}_ms"] if op in whole else 0.0 for q in (50, 95, 99)}
            for op, outcomes in sorted(self._outcomes.items())
        }
        total = sum(sum(outcomes.values()) for outcomes in self._outcomes.values())
        return {
            "records": self.records,
            "total_operations": total,
            "operations": operations,
            "latency": table,
        }


class _Pass:
    """One pass: pairs completions with their invocations and feeds every check what it wants."""

    def __init__(self, checks: Iterable[Check], facts: FactsFold) -> None:
        self.crashed: dict[str, str] = {}
        self.statistics = _Statistics()
        self._facts = facts
        self._open: dict[str, Record] = {}
        self._plain: dict[str, list[Check]] = defaultdict(list)
        self._operations: dict[tuple[str, str], list[Check]] = {}
        self._checks = list(checks)
        for check in self._checks:
            for kind in check.kinds - OPERATION_KINDS:
                self._plain[kind].append(check)

    def run(self, records: Iterable[Record]) -> None:
        """Feed everything; operations that never completed count as `info` at the end."""
        last = 0.0
        opened, count = self._open, 0
        for record in records:
            kind = record["k"]
            count += 1
            if kind == INVOKE:
                opened[record["id"]] = record
                self._operation(record)
            elif kind in COMPLETIONS:
                self._complete(record)
            else:
                self._other(kind, record)
            last = max(last, record["t"])
        self._facts.last = last
        self.statistics.records = count
        for identity, asked in list(opened.items()):
            missing = {"t": last, "k": INFO, "id": identity, "op": asked["op"]}
            self._complete({**missing, "error": NO_OUTCOME})

    def _complete(self, record: Record) -> None:
        asked = self._open.pop(record["id"], None)
        if asked is None:
            text = f"operation {record['id']} completed without an invocation before it"
            raise HistoryError(text)
        record["invoke"] = asked
        self.statistics.operation(record)
        self._operation(record)

    def _operation(self, record: Record) -> None:
        key = (record["k"], record["op"])
        checks = self._operations.get(key)
        if checks is None:
            checks = self._operations[key] = [c for c in self._checks if _wants(c, *key)]
        self._feed(checks, record)

    def _other(self, kind: str, record: Record) -> None:
        if kind in KINDS:
            self._facts.feed(record)
        self._feed(self._plain.get(kind, ()), record)

    def _feed(self, checks: Iterable[Check], record: Record) -> None:
        for check in checks:
            try:
                check.feed(record)
            except Exception as error:  # a crashed check proves nothing
                if check.name not in self.crashed:
                    self.crashed[check.name] = _crash(error)


def _wants(check: Check, kind: str, op: str) -> bool:
    ops: frozenset[str] = getattr(check, "ops", frozenset())
    return kind in check.kinds and (not ops or op in ops)


def _crash(error: Exception) -> str:
    return f"check crashed: {type(error).__name__}: {error}"


def judge_run(run: RunFolder, checks: list[Check] | None = None) -> Judgement:
    """Judge a saved run. Damaged files and crashed checks make it unknown, with the reason."""
    expected = PASSES
    try:
        plan = orjson.loads(run.plan.read_bytes())
        expected = Expectation.of(plan["scenario"])
        about = orjson.loads((run.root / "run.json").read_bytes())
        folding = FactsFold(plan, about)
        everything = all_checks() if checks is None else checks
        passing = _Pass(everything, folding)
        passing.run(read_history(run.history))
        facts = folding.finish()
    except (HistoryError, OSError, orjson.JSONDecodeError, KeyError, ValueError) as error:
        return unjudged(f"{type(error).__name__}: {error}", expected)
    findings = [_judge(check, facts, passing.crashed, plan["scenario"]) for check in everything]
    void(findings)
    verdict = worst(finding.verdict for finding in findings if finding.applicable)
    judgement = _judgement(verdict, expected, findings, facts, passing.statistics.finish(facts))
    judgement.aborted = about.get("aborted") or ""
    return judgement


def _judge(
    check: Check, facts: Facts, crashed: dict[str, str], scenario: dict[str, Any]
) -> Finding:
    selected = scenario.get("guarantees")
    if selected and check.family != COVERAGE and check.name not in selected:
        return check.finding(Verdict.PASS, applicable=False, reason="not selected by the scenario")
    if lacking := check.needs - facts.capabilities:
        reason = "; ".join(
            _LACKING.get(name, f"the target does not offer {name}") for name in sorted(lacking)
        )
        return check.finding(Verdict.PASS, applicable=False, reason=reason)
    load = LOADS.get(check.name)
    if load and not scenario["focus"][load]:
        reason = f"the scenario makes no such load (`focus.{load}`)"
        return check.finding(Verdict.PASS, applicable=False, reason=reason)
    if check.name in TRACED and not scenario.get("telemetry"):
        reason = "the scenario has no traces (`telemetry: on`)"
        return check.finding(Verdict.PASS, applicable=False, reason=reason)
    if check.name in crashed:
        return check.finding(Verdict.UNKNOWN, reason=crashed[check.name])
    try:
        return check.judge(facts)
    except Exception as error:  # a crashed check proves nothing
        return check.finding(Verdict.UNKNOWN, reason=_crash(error))


def _judgement(
    verdict: Verdict,
    expected: Expectation,
    findings: list[Finding],
    facts: Facts | None,
    statistics: dict[str, Any],
) -> Judgement:
    red = [f.name for f in findings if f.applicable and f.verdict is Verdict.FAIL]
    surprise = expected.surprise(verdict, red)
    as_expected = verdict == expected.verdict and not surprise
    outcome = "as_expected" if as_expected else "not_as_expected"
    return Judgement(verdict, expected.verdict, outcome, findings, facts, statistics, surprise)


def unjudged(reason: str, expected: Expectation = PASSES) -> Judgement:
    """Return the judgement of a run whose checks could not finish: unknown, and why."""
    finding = Finding(
        "checks-finished",
        COVERAGE,
        "The record of the run was whole and every check finished.",
        Verdict.UNKNOWN,
        reason=reason,
    )
    return _judgement(Verdict.UNKNOWN, expected, [finding], None, {})


async def judge_in_process(run: RunFolder, timeout: float) -> Judgement:  # noqa: ASYNC109 - a bound
    """Judge in a process of its own, for `timeout` seconds at most; write judgement.json.

    A crash, a kill or running out of time is unknown, with the reason.
    """
    path = run.root / "judgement.json"
    path.unlink(missing_ok=True)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "harness.checks.judge", str(run.root)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, errors = await asyncio.wait_for(process.communicate(), timeout)
    except TimeoutError:
        return _give_up(run, f"the checks ran out of time ({timeout:g} s)")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if process.returncode or not path.exists():
        last = errors.decode(errors="replace").strip().rpartition("\n")[2]
        return _give_up(run, f"the checks ended with status {process.returncode}: {last}")
    return Judgement.from_json(path.read_bytes())


def _give_up(run: RunFolder, reason: str) -> Judgement:
    expected = PASSES
    with contextlib.suppress(OSError, ValueError, KeyError):
        expected = Expectation.of(orjson.loads(run.plan.read_bytes())["scenario"])
    judgement = unjudged(reason, expected)
    (run.root / "judgement.json").write_bytes(judgement.to_json())
    return judgement


def main(arguments: list[str]) -> int:
    """Judge the run in the folder that is named and write its judgement.json."""
    run = RunFolder(Path(arguments[0]))
    (run.root / "judgement.json").write_bytes(judge_run(run).to_json())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
