"""The harness can fail: every mutant is caught by the guarantee that it breaks, and by no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.catalogue import Mutant
from tests.mutants.caught import problems
from tests.mutants.running import run


@pytest.mark.timeout(180)
def test_a_mutant_is_caught_by_what_it_breaks(mutant: Mutant, seed: int, tmp_path: Path) -> None:
    """The guarantee that the mutant breaks is red, and nothing that the defect does not explain."""
    ran = run(mutant, seed, tmp_path)
    wrong = problems(mutant, ran.summary, ran.exit_code)
    assert not wrong, "\n".join([*wrong, ran.said])
