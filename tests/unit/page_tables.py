"""Reads the tables of the documentation."""

from __future__ import annotations


def table_rows(text: str) -> list[list[str]]:
    """Return the cells of every row of every table, heads included."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
