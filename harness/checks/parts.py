"""Parts of the harness that end by themselves: what broke in such a run is not the app's doing."""

from __future__ import annotations

from collections.abc import Iterable

from harness.checks.base import Check, Example, Facts, Finding
from harness.checks.measure import MAX_EXAMPLES
from harness.history.records import Record
from harness.verdict import Verdict

PARTS = frozenset({"toxiproxy", "balancer", "provider", "collector", "neighbour-provider"})
LOAD = "load-"  # load processes, and the master of load machines
ENDED = "ended"
FIT = frozenset({"load-healthy", "harness-alive"})  # without them figures are not the target's


def is_part(name: str) -> bool:
    """Tell whether a process is the harness's own; else it is of the deployment under test."""
    return name in PARTS or name.startswith(LOAD)


class Exits:
    """Folds exits and phases: what ended before the teardown although nobody meant it to."""

    kinds = frozenset({"exit", "phase"})

    def __init__(self) -> None:
        self.unmeant: list[tuple[str, int, float]] = []  # name, status, when
        self._over = False

    def feed(self, record: Record) -> None:
        """Fold one record."""
        if record["k"] == "phase":
            self._over = self._over or record["name"] == "teardown"
        elif not record["expected"] and not self._over:
            self.unmeant.append((record["name"], record["status"], record["t"]))


class HarnessAlive(Check):
    """No part of the harness ended unless a fault, or the harness itself, ended it."""

    name = "harness-alive"
    family = "coverage"
    sentence = "No part of the harness itself ended before the run was over."
    kinds = Exits.kinds

    def __init__(self) -> None:
        self._exits = Exits()

    def feed(self, record: Record) -> None:
        """Fold one record."""
        self._exits.feed(record)

    def judge(self, facts: Facts) -> Finding:
        """Return the finding; it is never red, for it says nothing of the app."""
        ended = [
            Example(f"{name} ended by itself with status {status} {_when(facts, t)}", t)
            for name, status, t in self._exits.unmeant
            if is_part(name)
        ]
        first = ended[0].text if ended else ""
        return self.finding(
            Verdict.UNKNOWN if ended else Verdict.PASS,
            quantities={ENDED: len(ended)},
            bound="0",
            reason=first and f"{first}; what broke afterwards is not the app's doing",
            examples=ended[:MAX_EXAMPLES],
        )


def _when(facts: Facts, t: float) -> str:
    """Return an instant in seconds of load, as reports show it."""
    at = t - facts.load.start
    return f"at {at:.1f} s" if at >= 0 else f"{-at:.1f} s before the load"


def void(findings: Iterable[Finding]) -> None:
    """Make what is red unknown when a part of the harness ended, and say both reasons.

    All of it: what a guarantee counted before and after that moment cannot be told apart.
    """
    findings = list(findings)
    cause = next((f.reason for f in findings if voids(f)), "")
    for finding in findings:
        if cause and finding.applicable and finding.verdict is Verdict.FAIL:
            finding.verdict = Verdict.UNKNOWN
            finding.reason = f"{cause}. It was red: {finding.reason}"


def voids(finding: Finding) -> bool:
    """Tell whether a finding says that a part of the harness ended by itself."""
    return finding.name == HarnessAlive.name and bool(finding.quantities.get(ENDED))


def unfit(findings: Iterable[Finding]) -> str:
    """Return why a run measured the harness and not the target; empty when it did not."""
    ill = (f for f in findings if f.name in FIT and f.verdict is not Verdict.PASS)
    return "; ".join(finding.reason for finding in ill)
