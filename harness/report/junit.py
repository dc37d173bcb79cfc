"""junit.xml: one test case per guarantee, and one for the verdict of the scenario."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.report.words import code_of, headline, outcome, quantities, status
from harness.verdict import ExitCode, Verdict

if TYPE_CHECKING:
    from junitparser import TestCase

    from harness.checks.base import Finding
    from harness.checks.judge import Judgement

# XML 1.0 forbids these; an error text of a broken server may hold them.
_CONTROL = {code: "�" for code in range(32) if chr(code) not in "\t\n\r"}


def to_xml(name: str, judgement: Judgement) -> bytes:
    """Return junit.xml's bytes.

    fail → failure, unknown → error, not applicable → skipped. Where the scenario expects `fail`
    (a regression that must stay visible), a failing guarantee is skipped with that reason, so
    that a CI server shows red exactly when the exit code is not 0.
    """
    from junitparser import JUnitXml, TestSuite

    suite = TestSuite(name)
    suite.add_testcase(_scenario_case(name, judgement))
    for finding in judgement.findings:
        suite.add_testcase(_case(name, finding, judgement))
    suites = JUnitXml("harness")
    suites.add_testsuite(suite)
    suites.update_statistics()  # type: ignore[no-untyped-call]  # library lacks it
    return bytes(suites.tostring())  # type: ignore[no-untyped-call]  # library lacks it


def _scenario_case(name: str, judgement: Judgement) -> TestCase:
    from junitparser import Error, Failure, TestCase

    case = TestCase("verdict", classname=name)
    code = code_of(judgement)
    words = _text(f"{headline(judgement)} Expected {judgement.expected}: {outcome(judgement)}.")
    if code is ExitCode.NOT_AS_EXPECTED:
        case.result = [Failure(words, "not_as_expected")]
    elif code is ExitCode.UNKNOWN:
        case.result = [Error(words, "unknown")]
    case.system_out = words
    return case


def _case(name: str, finding: Finding, judgement: Judgement) -> TestCase:
    from junitparser import Error, Failure, Skipped, TestCase

    case = TestCase(finding.name, classname=f"{name}.{finding.family}")
    reason = _text(finding.reason or finding.sentence)
    said = status(finding)
    if said == "n/a":
        case.result = [Skipped(f"not applicable: {reason}", "not_applicable")]
    elif said == "fail" and judgement.expected is Verdict.FAIL and not judgement.surprise:
        case.result = [Skipped(f"fails, as this scenario expects: {reason}", "expected_failure")]
    elif said == "fail":
        case.result = [Failure(reason, "guarantee")]
    elif said == "unknown" and code_of(judgement) is not ExitCode.AS_EXPECTED:
        case.result = [Error(reason, "unknown")]
    elif said == "unknown":
        case.result = [Skipped(f"not proven, as this scenario expects: {reason}", "unknown")]
    case.system_out = _text(_details(finding))
    return case


def _details(finding: Finding) -> str:
    lines = [finding.sentence, f"measured: {quantities(finding)}", f"bound: {finding.bound}"]
    lines += [
        f"example at {example.t:.3f} s: {example.text} [{' '.join(example.operations)}]"
        for example in finding.examples
    ]
    return "\n".join(lines)


def _text(text: str) -> str:
    return text.translate(_CONTROL)
