"""Draws a trace: the operation as the load saw it, and below it the spans, each with its time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.history.records import Record
from harness.report.series import Operation
from harness.report.svg import bar, label, tag

WIDTH, NAMES, RIGHT = 1000.0, 380.0, 90.0  # of the picture, the names, and room for the last time
ROW, AXIS = 18.0, 20.0
INDENT = 12.0
MOST_ROWS = 40
TICKS = 4
AFTER_S = 0.002  # a span ends a little after its answer has left
COLOURS = 6  # of workers, as in the timeline
_LONGEST = 52  # characters of a name


@dataclass(frozen=True)
class Row:
    """A span in the order of the tree."""

    span: Record
    depth: int


def rows_of(spans: Sequence[Record]) -> list[Row]:
    """Return the spans as a tree read from above, siblings by their start.

    One whose parent is unknown stands at the top: the parent of the first is the operation.
    """
    known = {span["span"] for span in spans}
    below: dict[str, list[Record]] = defaultdict(list)
    for span in sorted(spans, key=lambda span: float(span["t0"])):
        below[span["parent"] if span["parent"] in known else ""].append(span)
    return list(_descend(below))


def _descend(below: dict[str, list[Record]]) -> Iterator[Row]:
    """Yield what hangs below the root, depth first; without recursion, for a span may be odd."""
    waiting = [Row(span, 0) for span in reversed(below.pop("", []))]
    while waiting:
        row = waiting.pop()
        yield row
        children = below.pop(row.span["span"], [])
        waiting += [Row(child, row.depth + 1) for child in reversed(children)]


def words_of(span: Record) -> str:
    """Return what a span did, in few words: a command, a statement's kind, or its name."""
    attributes, name = span["attributes"], str(span["name"])
    if attributes.get("db.system.name") == "redis":
        return f"redis {name} → {attributes.get('server.address', '?')}"
    if database := attributes.get("db.system"):
        return f"{database} {name.partition(' ')[0]}"
    return name


def redis_seconds(spans: Sequence[Record]) -> float:
    """Return how long commands to Redis took together."""
    redis = (s for s in spans if s["attributes"].get("db.system.name") == "redis")
    return float(sum(span["t"] - span["t0"] for span in redis))


@dataclass(frozen=True)
class Waterfall:
    """The picture of one operation's trace; `origin` is load second 0 in run time."""

    operation: Operation
    spans: Sequence[Record]
    origin: float

    @property
    def left_out(self) -> int:
        """Return how many spans are not drawn: later than the answer, or too many."""
        return len(self.spans) - len(self._rows)

    @property
    def _rows(self) -> list[Row]:
        end = self._end + self.origin
        return rows_of([span for span in self.spans if span["t0"] <= end])[:MOST_ROWS]

    @property
    def _end(self) -> float:
        done = self.operation.done
        return self.operation.sent if done is None else done

    @property
    def _length(self) -> float:
        return max(self._end - self.operation.sent, 1e-4)

    def picture(self) -> str:
        """Return the SVG."""
        rows = self._rows
        height = AXIS + ROW * (len(rows) + 1)
        parts = [*self._axis(height), *self._first()]
        for number, row in enumerate(rows, 1):
            parts += self._row(row, AXIS + ROW * number)
        box = f"0 0 {WIDTH:g} {height:g}"
        name = f"trace of {self.operation.op}"
        return tag("svg", *parts, viewBox=box, role="img", aria_label=name, class_="waterfall")

    def _x(self, t: float) -> float:
        """Return where a time (load seconds) lies; what is outside is drawn at the edge."""
        share = (t - self.operation.sent) / self._length
        return NAMES + min(1.0, max(0.0, share)) * (WIDTH - NAMES - RIGHT)

    def _axis(self, height: float) -> Iterator[str]:
        for tick in range(TICKS + 1):
            t = self._length * tick / TICKS
            x = self._x(self.operation.sent + t)
            yield tag("line", x1=x, x2=x, y1=AXIS - 4, y2=height, class_="rule")
            yield label(x, AXIS - 8, f"{1000 * t:.1f} ms", "tick", "middle")

    def _first(self) -> Iterator[str]:
        sent, end = self.operation.sent, self._end
        yield from self._drawn(
            self.operation.op, 0, (sent, end), AXIS, "sent", "as the load saw it"
        )

    def _row(self, row: Row, y: float) -> Iterator[str]:
        span = row.span
        worker = span.get("worker")
        where = f"w{worker}" if worker is not None else str(span.get("instance", "?"))
        class_ = f"key w{worker % COLOURS}" if isinstance(worker, int) else "sent"
        times = span["t0"] - self.origin, span["t"] - self.origin
        class_ = "fail" if span.get("error") else class_
        name = f"{where} {words_of(span)}"
        yield from self._drawn(name, row.depth + 1, times, y, class_, _hint(span))

    def _drawn(
        self, name: str, depth: int, times: tuple[float, float], y: float, class_: str, hint: str
    ) -> Iterator[str]:
        start, end = times
        shown = name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
        yield label(4 + INDENT * min(depth, 6), y + 13, shown, "row-name")
        x, right = self._x(start), self._x(end)
        yield bar(x, y + 4, right - x, ROW - 7, class_, f"{name}: {hint}")
        later = " →" if end > self._end + AFTER_S else ""
        yield label(max(right, x + 1) + 4, y + 13, f"{1000 * (end - start):.1f} ms{later}", "tick")


def _hint(span: Record) -> str:
    """Return a span's attributes in one line."""
    shown: dict[str, Any] = {**span["attributes"]}
    if error := span.get("error"):
        shown["error"] = error
    return ", ".join(f"{key} {value}" for key, value in shown.items()) or str(span["kind"])
