"""Verdicts, outcomes and exit codes: what the evidence says, and what the command returns."""

from __future__ import annotations

import enum
from collections.abc import Iterable


class Verdict(enum.StrEnum):
    """What the evidence says. Ranks fail > unknown > pass: the worst one wins."""

    PASS = "pass"
    UNKNOWN = "unknown"
    FAIL = "fail"


_RANK = {Verdict.PASS: 0, Verdict.UNKNOWN: 1, Verdict.FAIL: 2}


class ExitCode(enum.IntEnum):
    """The codes of every `harness` command; printed in `--help`."""

    AS_EXPECTED = 0
    NOT_AS_EXPECTED = 1
    UNKNOWN = 2
    USER_ERROR = 3
    MISSING_PART = 4
    ABORTED = 5
    INTERRUPTED = 130


EXIT_CODES = """\
Exit codes: 0 all as expected; 1 not as expected; 2 unknown (too little evidence, or flaky);
3 a user's mistake; 4 a needed part is missing and nothing ran; 5 the load was ended early by
--abort-on; 130 interrupted.
"""


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the highest-ranking verdict; `unknown` when there is none (nothing proves nothing)."""
    return max(verdicts, key=_RANK.__getitem__, default=Verdict.UNKNOWN)


def exit_code(verdict: Verdict, expected: Verdict, surprise: str = "") -> ExitCode:
    """Return the exit code of one scenario; `surprise` is what was red against expectation."""
    if surprise:
        return ExitCode.NOT_AS_EXPECTED
    if verdict == expected:
        return ExitCode.AS_EXPECTED
    return ExitCode.UNKNOWN if verdict == Verdict.UNKNOWN else ExitCode.NOT_AS_EXPECTED


def worst_exit(codes: Iterable[ExitCode]) -> ExitCode:
    """Return the exit code of several scenarios: 1 beats 2 beats 0."""
    order = [ExitCode.AS_EXPECTED, ExitCode.UNKNOWN, ExitCode.NOT_AS_EXPECTED]
    return max(
        codes,
        key=lambda code: order.index(code) if code in order else 9,
        default=ExitCode.MISSING_PART,
    )
