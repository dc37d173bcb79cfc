"""The report's section about traces: the slowest operations, and where their time went."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.history.reader import HistoryError, read_file
from harness.history.records import Record
from harness.report.series import Operation, Series
from harness.report.waterfall import Waterfall, redis_seconds

if TYPE_CHECKING:
    from markupsafe import Markup

MOST_OF_EXAMPLES = 12  # operations of worst examples whose traces are drawn too
MOST_SPANS = 5000  # read of one trace: an answer of an hour has very many


@dataclass(frozen=True)
class Drawn:
    """One operation with its trace."""

    operation: Operation
    anchor: str
    took: str
    redis: str
    spans: int
    left_out: int
    picture: Markup


def drawn(root: Path, series: Series) -> list[Drawn]:
    """Return the slowest operations and those of worst examples, with their traces."""
    from markupsafe import Markup

    chosen = {operation.id: operation for operation in (*series.slowest, *_of_examples(series))}
    spans = spans_of(root, {operation.args["trace"] for operation in chosen.values()})
    found = []
    for operation in chosen.values():
        mine = spans.get(operation.args["trace"], [])
        waterfall = Waterfall(operation, mine, series.origin)
        found.append(
            Drawn(
                operation=operation,
                anchor=anchor(operation),
                took=f"{1000 * ((operation.done or operation.sent) - operation.sent):.1f} ms",
                redis=f"{1000 * redis_seconds(mine):.1f} ms",
                spans=len(mine),
                left_out=waterfall.left_out,
                picture=Markup(waterfall.picture()),  # noqa: S704  # svg.py escaped it
            )
        )
    return found


def anchor(operation: Operation) -> str:
    """Return the name under which the page has an operation's trace."""
    return f"trace-{operation.id}"


def _of_examples(series: Series) -> list[Operation]:
    entries = [entry for kept in series.wanted.values() for entry in kept]
    operations = [entry for entry in entries if isinstance(entry, Operation)]
    return [each for each in operations if "trace" in each.args][:MOST_OF_EXAMPLES]


def spans_of(root: Path, traces: Collection[str]) -> dict[str, list[Record]]:
    """Return the spans of some traces; of a damaged file those before the damage."""
    found: dict[str, list[Record]] = {trace: [] for trace in traces}
    path = root / "history" / "spans.jsonl"
    if not found or not path.exists():
        return found
    try:
        for record in read_file(path):
            mine = found.get(record["trace"]) if record["k"] == "span" else None
            if mine is not None and len(mine) < MOST_SPANS:
                mine.append(record)
    except HistoryError:  # the verdict says so: every check reads this file
        pass
    return found
