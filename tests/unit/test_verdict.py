"""Verdicts rank fail > unknown > pass, and exit codes follow the worst outcome."""

from __future__ import annotations

import pytest

from harness.verdict import ExitCode, Verdict, exit_code, worst, worst_exit

P, U, F = Verdict.PASS, Verdict.UNKNOWN, Verdict.FAIL


@pytest.mark.parametrize(
    ("verdicts", "expected"), [([P, P], P), ([P, U], U), ([U, F, P], F), ([], U)]
)
def test_the_worst_verdict_wins(verdicts: list[Verdict], expected: Verdict) -> None:
    """Fail beats unknown beats pass, and no verdict at all is unknown."""
    assert worst(verdicts) == expected


@pytest.mark.parametrize(
    ("verdict", "expected", "code"),
    [(P, P, 0), (F, F, 0), (F, P, 1), (P, F, 1), (U, P, 2), (U, F, 2)],
)
def test_the_exit_code_compares_with_what_was_expected(
    verdict: Verdict, expected: Verdict, code: int
) -> None:
    """A regression that is expected to fail exits 0 when it does."""
    assert exit_code(verdict, expected) == code


def test_several_scenarios_end_with_the_worst_code() -> None:
    """Not as expected beats unknown; nothing run at all is a missing part."""
    assert worst_exit([ExitCode.AS_EXPECTED, ExitCode.UNKNOWN]) == ExitCode.UNKNOWN
    assert worst_exit([ExitCode.NOT_AS_EXPECTED, ExitCode.UNKNOWN]) == ExitCode.NOT_AS_EXPECTED
    assert worst_exit([]) == ExitCode.MISSING_PART
