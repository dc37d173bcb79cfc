"""How a judgement is said: the same words in every report and on the terminal."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from harness.verdict import ExitCode, Verdict, exit_code

if TYPE_CHECKING:
    from harness.checks.base import Finding
    from harness.checks.judge import Judgement

ICONS = {"pass": "✔", "fail": "✖", "unknown": "?", "n/a": "—"}  # colour alone is not enough
_ORDER = {"fail": 0, "unknown": 1, "pass": 2, "n/a": 3}
_UNIT = re.compile(r"(?P<name>.+?)_(?P<unit>per_s|s|ms)(_(?P<which>p\d+|max|min|mean))?")
OUTCOMES = {
    ExitCode.AS_EXPECTED: "as expected",
    ExitCode.NOT_AS_EXPECTED: "not as expected",
    ExitCode.UNKNOWN: "too little evidence",
    ExitCode.ABORTED: "ended early",
}


def status(finding: Finding) -> str:
    """Return `pass`, `fail`, `unknown`, or `n/a` when the target lacks the capability."""
    return str(finding.verdict) if finding.applicable else "n/a"


def ordered(findings: list[Finding]) -> list[Finding]:
    """Return the findings, the worst first, otherwise as they came."""
    return sorted(findings, key=lambda finding: _ORDER[status(finding)])


def number(value: Any) -> str:
    """Return a value as short text: three significant digits, no exponents."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "—"}[value]
    if isinstance(value, float):
        if value == int(value) and abs(value) < 1e15:
            return f"{int(value):,}".replace(",", " ")
        digits = 3 if abs(value) < 1 else 2 if abs(value) < 100 else 0
        return f"{value:,.{digits}f}".replace(",", " ")
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ")
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return ", ".join(f"{key} {number(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(number(item) for item in value) or "none"
    return str(value)


def shortened(text: str, most: int) -> str:
    """Return the text, cut with an ellipsis when it has more than `most` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def named(names: list[str], most: int = 5) -> str:
    """Return the first names, and how many there are besides."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def quantity(name: str, value: Any) -> tuple[str, str]:
    """Return a quantity as (label, value with unit).

    `deaf_s: 1.4` is said as `deaf 1.4 s`, `close_ms_p99: 80` as `close p99 80 ms`,
    `requests_per_s: 151` as `requests 151/s`, `kb_per_s_max: 3` as `kb max 3/s`.
    """
    unit = _UNIT.fullmatch(name)
    if unit and isinstance(value, int | float):
        label = f"{unit['name']} {unit['which'] or ''}".strip()
        said = "/s" if unit["unit"] == "per_s" else f" {unit['unit']}"
        return label.replace("_", " "), f"{number(value)}{said}"
    return name.replace("_", " "), number(value)


def quantities(finding: Finding, most: int = 99) -> str:
    """Return the finding's quantities in one line."""
    said = [quantity(*item) for item in list(finding.quantities.items())[:most]]
    return ", ".join(f"{label} {value}" for label, value in said)


def code_of(judgement: Judgement) -> ExitCode:
    """Return the exit code of a judged scenario."""
    if judgement.aborted:
        return ExitCode.ABORTED
    return exit_code(judgement.verdict, judgement.expected, judgement.surprise)


def outcome(judgement: Judgement) -> str:
    """Return how the verdict compares with what the scenario expects."""
    said = OUTCOMES[code_of(judgement)]
    return f"{said} ({judgement.surprise})" if judgement.surprise else said


def headline(judgement: Judgement) -> str:
    """Return the verdict in one sentence."""
    from harness.checks.parts import voids  # with all checks: not for who asks for help alone

    counted = [finding for finding in judgement.findings if finding.applicable]
    bad = [f.name for f in counted if f.verdict is Verdict.FAIL]
    unsure = [f.name for f in counted if f.verdict is Verdict.UNKNOWN]
    if judgement.aborted:
        broken = f" Broken until then: {named(bad)}." if bad else ""
        return f"Ended early: {judgement.aborted}.{broken}"
    if cause := next(filter(voids, counted), None):
        return f"Void: {cause.examples[0].text}. Nothing is proven: run it again."
    if bad:
        said = f"{len(bad)} of {len(counted)} guarantees broken: {named(bad)}"
        return said + (f"; {len(unsure)} without enough evidence" if unsure else "") + "."
    if unsure:
        return f"Not proven: {named(unsure)} ({len(unsure)} of {len(counted)} guarantees)."
    if judgement.verdict is Verdict.PASS:
        return f"All {len(counted)} guarantees held."
    return "Nothing could be judged."


def brief(record: dict[str, Any], without: tuple[str, ...] = ()) -> str:
    """Return a record's fields as `name=value` words, short enough for a table cell."""
    words = []
    for key, value in record.items():
        if key not in without and value is not None:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            words.append(f"{key}={shortened(text, 80)}")
    return " ".join(words)
