"""docs/seeds.md: every row is whole, and every file, name and test in it exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from runtime.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/seeds.md").read_text(encoding="utf-8")
PLACE = re.compile(r"`((?:runtime|harness|tests|docs|scenarios)/[\w/.-]+?)(?:::([\w.]+))?`")
SAID_IN = re.compile(r"S([1-5]):(\d+)")
WEAKNESSES = 66
VARIABLES = (  # of the five texts
    *("REDIS_URL", "REDIS_CLUSTER", "REDIS_CLUSTER_MODE", "REDIS_KEY_PREFIX"),
    *("REDIS_SENTINEL_HOSTS", "REDIS_SENTINEL_PORT", "REDIS_SENTINEL_MAX_RETRY_COUNT"),
    *("REDIS_SOCKET_CONNECT_TIMEOUT", "REDIS_RECONNECT_DELAY", "ENABLE_WEBSOCKET_SUPPORT"),
    *("WEBSOCKET_MANAGER", "WEBSOCKET_REDIS_URL", "WEBSOCKET_REDIS_CLUSTER"),
    *("WEBSOCKET_REDIS_OPTIONS", "WEBSOCKET_SENTINEL_HOSTS", "WEBSOCKET_SENTINEL_PORT"),
    *("CORS_ALLOW_ORIGIN", "ENABLE_STAR_SESSIONS_MIDDLEWARE", "WEBUI_SESSION_COOKIE_SAME_SITE"),
    *("WEBUI_SESSION_COOKIE_SECURE", "JWT_EXPIRES_IN", "ENABLE_PERSISTENT_CONFIG"),
    *("ENABLE_BASE_MODELS_CACHE", "DATABASE_URL", "UVICORN_WORKERS", "INSTANCE_ID"),
    *("ENABLE_OTEL", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_SERVICE_NAME", "SRC_LOG_LEVELS"),
)


def _rows(text: str) -> list[list[str]]:
    """Return the cells of each row, without heads and rules."""
    lines = text.splitlines()
    heads = {n - 1 for n, line in enumerate(lines) if line.startswith("|---")}
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for n, line in enumerate(lines)
        if line.startswith("| ") and n not in heads
    ]


def _sections() -> dict[str, list[list[str]]]:
    """Return the rows under each heading."""
    parts = re.split(r"^## (.+)$", PAGE, flags=re.MULTILINE)[1:]
    return {title: _rows(text) for title, text in zip(parts[::2], parts[1::2], strict=True)}


SECTIONS = _sections()
WEAK = SECTIONS.pop("Weaknesses")
STATEMENTS = [row for rows in SECTIONS.values() for row in rows]


@cache
def _names(path: Path) -> frozenset[str]:
    """Return what a module defines: `function`, `Class`, `Class.member`."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        for member in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(f"{node.name}.{member.name}")  # type: ignore[attr-defined]  # a class
    return frozenset(found)


def _tests(cell: str) -> list[str]:
    """Return the tests that a cell names."""
    return [name for path, name in PLACE.findall(cell) if path.startswith("tests/") and name]


def test_no_cell_is_empty_and_no_row_has_another_length() -> None:
    """Each row says where, and by which test."""
    assert len(STATEMENTS) > 100
    for row in STATEMENTS + WEAK:
        assert len(row) == 4, row
        assert all(len(cell) > 3 for cell in row), row


@pytest.mark.parametrize("row", STATEMENTS + WEAK, ids=lambda row: f"{row[0]} {row[1][:20]}")
def test_what_a_row_names_exists(row: list[str]) -> None:
    """Files are there, and define the functions, classes and tests named."""
    for path, name in PLACE.findall(" ".join(row)):
        assert (ROOT / path).is_file(), path
        assert not name or name in _names(ROOT / path), f"{path} has no {name}"
        assert not name.startswith("test_") or Path(path).name.startswith("test_"), path


def test_every_statement_is_located_implemented_and_proved() -> None:
    """A statement has its lines, a file of ours or a plain word, and at least one test."""
    lengths = {row[0]: int(row[2]) for row in _rows(PAGE.split("## ")[0])}
    for said_in, _, where, proof in STATEMENTS:
        places = [SAID_IN.fullmatch(place) for place in said_in.split(", ")]
        assert all(p and 1 <= int(p[2]) <= lengths[f"S{p[1]}"] for p in places), said_in
        assert _tests(proof), proof
        plain = ("left:", "not applicable:", "nothing to build")
        assert PLACE.search(where) or where.startswith(plain) or "`" in where, where


def test_deployments_stand_at_the_end() -> None:
    """What operators do comes after what the system does."""
    assert list(SECTIONS)[-1] == "Deployments, operators' checks and server settings"


def test_every_variable_of_the_texts_has_a_row_and_is_read() -> None:
    """None is forgotten here, or in the settings."""
    known = {name.upper() for name in Settings.model_fields} | {"REDIS_CLUSTER_MODE"}
    said = " ".join(row[1] for row in SECTIONS["Settings"])
    assert [name for name in VARIABLES if f"`{name}" not in said] == []
    assert [name for name in VARIABLES if name not in known] == []


def test_all_weaknesses_are_there_once_in_order() -> None:
    """66 of them; each put right by a test, not applicable, or left with a reason."""
    numbers = [int(row[0].removeprefix("W-")) for row in WEAK]
    assert numbers == list(range(1, WEAKNESSES + 1))
    for _, _, state, how in WEAK:
        assert state in ("put right", "not applicable", "left")
        assert _tests(how) if state == "put right" else len(how) > 30, how


def test_no_row_is_there_twice() -> None:
    """Statements differ from each other."""
    told = sorted(row[1] for row in STATEMENTS)
    assert [one for one, other in pairwise(told) if one == other] == []
