"""What a scenario expects of a run: a verdict, and with `fail` which guarantees may be red."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.verdict import Verdict


@dataclass(frozen=True)
class Expectation:
    """The verdict; which guarantees must all be red, which one of, and which may be."""

    verdict: Verdict = Verdict.PASS
    all_of: frozenset[str] = frozenset()
    one_of: frozenset[str] = frozenset()
    allowed: frozenset[str] | None = None  # None: any

    @classmethod
    def of(cls, scenario: Mapping[str, Any]) -> Expectation:
        """Return what a dumped scenario expects."""
        verdict = Verdict(scenario.get("expected", "pass"))
        if verdict is not Verdict.FAIL:
            return cls(verdict)
        if exactly := frozenset(scenario.get("expected_red") or ()):
            return cls(verdict, all_of=exactly, allowed=exactly)
        if bug := scenario.get("bug"):
            catching = frozenset(bug["guarantees"])
            return cls(verdict, one_of=catching, allowed=catching | set(bug["also_red"]))
        return cls(verdict)

    def surprise(self, verdict: Verdict, red: Iterable[str]) -> str:
        """Return what of a red run is not as expected; empty when it is, or is not to be red."""
        found = set(red)
        if verdict is not Verdict.FAIL or self.verdict is not Verdict.FAIL:
            return ""
        said = []
        if missing := self.all_of - found:
            said.append(f"expected to be red, but are not: {_names(missing)}")
        if self.one_of and not self.one_of & found:
            said.append(f"expected one of these to be red: {_names(self.one_of)}")
        if self.allowed is not None and (more := found - self.allowed):
            said.append(f"red beside those expected: {_names(more)}")
        return "; ".join(said)


PASSES = Expectation()


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
