"""Tables in Markdown, and the places of committed pages that commands write them into."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.errors import UserError
from harness.files import write_whole


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table; each row has as many cells as the header."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, *rows)]
    return [lines[0], "|---" * len(header) + "|", *lines[1:]]


def write_between(page: Path, marks: tuple[str, str], text: str) -> bool:
    """Put text between two marks of a page; return whether that changed it."""
    old = page.read_text(encoding="utf-8")
    before, begin, rest = old.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise UserError(f"{page}: expected the marks {marks[0]} and {marks[1]}, to write between")
    new = f"{before}{begin}\n{text}\n{end}{after}"
    if new == old:
        return False
    write_whole(page, new.encode())
    return True
