"""Chooses the mutants: the fast subset by default, all of them with --mutants=all."""

from __future__ import annotations

import os

import pytest

from tests.mutants.catalogue import MUTANTS


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --mutants."""
    parser.addoption("--mutants", choices=["fast", "all"], default="fast", help="which mutants")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give every selected mutant a test of its own; MUTANT_TIMES repeats each."""
    if "mutant" not in metafunc.fixturenames:
        return
    everything = metafunc.config.getoption("--mutants") == "all"
    chosen = [mutant for mutant in MUTANTS if everything or mutant.fast]
    times = int(os.environ.get("MUTANT_TIMES", "1"))
    cases = [(mutant, seed) for seed in range(1, times + 1) for mutant in chosen]
    names = [f"{mutant.name}-{seed}" for mutant, seed in cases]
    metafunc.parametrize(("mutant", "seed"), cases, ids=names)
