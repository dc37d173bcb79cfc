"""Figures of benchmarks: the median counts, every figure is kept, a missed target fails."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.figures import SHOWN, Figures, markdown

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"


@pytest.fixture(autouse=True)
def _nothing_shown() -> Any:
    """Keep this test's figures out of the table."""
    before = len(SHOWN)
    yield
    del SHOWN[before:]


def test_the_median_is_held_against_the_target() -> None:
    """One bad round of three fails nothing; a bad median does, and says all rounds."""
    extra: dict[str, Any] = {}
    figures = Figures("test", extra)
    figures.note("ratio", [0.2, 0.8, 0.9], "", at_least=0.75)
    figures.check()
    figures.note("gap", [10, 160, 170], "ms", at_most=150)
    figures.note("for information", [5], "us")
    with pytest.raises(AssertionError, match=re.escape("gap: 160 ms, wanted <= 150; [10.0, 160")):
        figures.check()
    assert list(extra) == ["ratio", "gap", "for information"]
    assert extra["ratio"] == {
        "value": 0.8,
        "unit": "",
        "target": ">= 0.75",
        "rounds": [0.2, 0.8, 0.9],
    }


def test_the_page_shows_the_newest_baseline() -> None:
    """Its table is what `python -m tests.benchmarks.figures` prints."""
    assert "\n".join(markdown()) in PAGE.read_text(encoding="utf-8")
