"""What each mutant breaks, the scenario that catches it, and what must and may be red."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One broken runtime: a module of this folder that patches the runtime and runs its CLI.

    `must` are the guarantees that have to be red; `may` those that can be red with them, because
    the same defect shows there too. Anything else red is a failure of the harness.
    """

    name: str
    scenario: str
    must: frozenset[str]
    may: frozenset[str] = frozenset()
    fast: bool = False
    settings: tuple[str, ...] = ()  # --set key=value, to make a fast run of a longer scenario

    @property
    def module(self) -> str:
        """Return the module that runs the broken runtime."""
        return f"tests.mutants.{self.name.replace('-', '_')}"


MUTANTS: tuple[Mutant, ...] = ()
