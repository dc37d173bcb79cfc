"""Chooses the mutants: the fast subset by default, all of them with --mutants=all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.mutants.catalogue import MUTANTS, Mutant


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --mutants."""
    parser.addoption("--mutants", choices=["fast", "all"], default="fast", help="which mutants")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the controls to a run of all mutants."""
    return True if collection_path.name == "test_controls.py" and not _all(config) else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give every selected mutant and control a test of its own; MUTANT_TIMES repeats mutants."""
    if "mutant" in metafunc.fixturenames and "seed" in metafunc.fixturenames:
        chosen = [mutant for mutant in MUTANTS if mutant.fast or _all(metafunc.config)]
        times = int(os.environ.get("MUTANT_TIMES", "1"))
        cases = [(mutant, seed) for seed in range(1, times + 1) for mutant in chosen]
        names = [f"{mutant.name}-{seed}" for mutant, seed in cases]
        metafunc.parametrize(("mutant", "seed"), cases, ids=names)
    if "control" in metafunc.fixturenames:
        shortened = _shortened()
        names = [mutant.scenario for mutant in shortened]
        metafunc.parametrize("control", shortened, ids=names)


def _all(config: pytest.Config) -> bool:
    """Tell whether all mutants are wanted; without the option (`pytest tests`) the fast ones."""
    return bool(config.getoption("--mutants", "fast") == "all")


def _shortened() -> list[Mutant]:
    """Return one mutant of each way in which a scenario is shortened."""
    return list({(m.scenario, m.settings): m for m in MUTANTS if m.settings}.values())
