"""Small SVG pieces; every string that comes from a run is escaped here."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


def tag(name: str, *children: str, text: str = "", **attributes: object) -> str:
    """Return an element. `class_` means `class`, `_` in names means `-`, floats are shortened."""
    parts = [
        f' {key.rstrip("_").replace("_", "-")}="{escape(_short(value))}"'
        for key, value in attributes.items()
        if value is not None
    ]
    inner = escape(text) + "".join(children)
    return f"<{name}{''.join(parts)}>{inner}</{name}>" if inner else f"<{name}{''.join(parts)}/>"


def polyline(points: Iterable[tuple[float, float]], class_: str) -> str:
    """Return a line through points; nothing for fewer than one."""
    coordinates = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return tag("polyline", points=coordinates, class_=class_) if coordinates else ""


def bar(x: float, y: float, width: float, height: float, class_: str, title: str = "") -> str:
    """Return a rectangle at least one pixel wide, with a tooltip."""
    hint = (tag("title", text=title),) if title else ()
    return tag(
        "rect", *hint, x=x, y=y, width=max(width, 1.0), height=max(height, 0.0), class_=class_
    )


def label(x: float, y: float, text: str, class_: str, anchor: str = "start") -> str:
    """Return a text."""
    return tag("text", text=text, x=x, y=y, class_=class_, text_anchor=anchor)


def _short(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
