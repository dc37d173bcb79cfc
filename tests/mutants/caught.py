"""Was a mutant caught, and only by what it breaks? Judged on the summary of its run."""

from __future__ import annotations

from typing import Any

from harness.verdict import ExitCode, Verdict
from tests.mutants.catalogue import Mutant


def red(summary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the failed findings by name; a guarantee that does not apply cannot fail."""
    return {
        finding["name"]: finding
        for finding in summary["findings"]
        if finding["applicable"] and finding["verdict"] == Verdict.FAIL
    }


def problems(mutant: Mutant, summary: dict[str, Any], exit_code: int) -> list[str]:
    """Return what is wrong with the run of a mutant; empty when it was caught as it should be.

    A guarantee that is unknown is neither red nor green: it cannot catch a mutant.
    """
    found = red(summary)
    states = {finding["name"]: finding["verdict"] for finding in summary["findings"]}
    wrong = [
        f"{name} has to be red, was {states.get(name, 'not judged')}"
        for name in sorted(mutant.must - found.keys())
    ]
    wrong += [
        f"{name} is red although the defect does not explain it: {found[name]['reason']}"
        for name in sorted(found.keys() - mutant.must - mutant.may)
    ]
    if summary["verdict"] != Verdict.FAIL:
        wrong.append(f"the verdict is {summary['verdict']}, expected fail")
    if exit_code != ExitCode.NOT_AS_EXPECTED:
        wrong.append(f"the exit code is {exit_code}, expected {int(ExitCode.NOT_AS_EXPECTED)}")
    return wrong
