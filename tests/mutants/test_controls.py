"""The other half of the proof: the same shortened runs are green with the unbroken runtime."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.catalogue import Mutant
from tests.mutants.running import run


@pytest.mark.timeout(180)
def test_the_unbroken_runtime_passes_a_shortened_scenario(control: Mutant, tmp_path: Path) -> None:
    """What a mutant's shortened run shows is the mutant's doing, not the shortening's."""
    ran = run(control, 1, tmp_path, broken=False)
    assert ran.summary["verdict"] == "pass", ran.said
    assert ran.exit_code == 0, ran.said
