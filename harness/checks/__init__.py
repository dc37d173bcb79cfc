"""Guarantees: single-pass folds over the history, one family per file."""

from __future__ import annotations


def guarantee_names() -> list[str]:
    """Return the names of all guarantees."""
    return []
