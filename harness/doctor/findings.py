"""What the doctor found: one record, its text, its JSON, its exit code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal
from urllib.parse import urlsplit

import orjson

from harness.verdict import ExitCode

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
LABELS = ("evidence", "consequence", "fix")


@dataclass(frozen=True)
class Finding:
    """One thing to know. `error`: does not work; `warning`: will hurt one day; `note`: no harm.

    `name` is a slug that never changes; docs/troubleshooting.md has a row for each.
    """

    name: str
    severity: Severity
    where: str
    what: str
    evidence: str
    consequence: str
    fix: str

    def __str__(self) -> str:
        lines = [f"{self.severity}: {self.where}: {self.what} [{self.name}]"]
        return "\n".join(
            lines + [f"    {label}: {text}" for label in LABELS if (text := getattr(self, label))]
        )


def by_weight(findings: Iterable[Finding]) -> list[Finding]:
    """Return them once each, the worst first."""
    return sorted(dict.fromkeys(findings), key=lambda one: SEVERITIES.index(one.severity))


def exit_code(findings: Iterable[Finding]) -> ExitCode:
    """Return 1 when there is an error or a warning; notes harm nobody."""
    harm = any(finding.severity != "note" for finding in findings)
    return ExitCode.NOT_AS_EXPECTED if harm else ExitCode.AS_EXPECTED


def as_json(findings: Iterable[Finding]) -> str:
    """Return `{"findings": […]}`, the worst first."""
    return orjson.dumps({"findings": [asdict(one) for one in findings]}).decode()


def as_text(findings: list[Finding]) -> str:
    """Return all findings and a last line that counts them."""
    counts = {name: sum(f.severity == name for f in findings) for name in SEVERITIES}
    total = ", ".join(f"{count} {name}{'s' * (count != 1)}" for name, count in counts.items())
    return "\n".join([*map(str, findings), f"found: {total}"])


def masked(url: str) -> str:
    """Return a URL without its credentials and options."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{place}{parts.path}"
