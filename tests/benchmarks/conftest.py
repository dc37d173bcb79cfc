"""Figures for every benchmark that asks for them, and their table at the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.benchmarks.figures import SHOWN, Figures, table


@pytest.fixture
def figures(request: pytest.FixtureRequest, benchmark: Any) -> Iterator[Figures]:
    """Give the collector; targets are checked after the test, so all figures are kept."""
    collected = Figures(request.node.nodeid, benchmark.extra_info)
    yield collected
    collected.check()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table."""
    if SHOWN:
        terminalreporter.section("figures (medians of the rounds)")
        for line in table():
            terminalreporter.write_line(line)
