"""docs/troubleshooting.md: a row for every finding, and for every entry of the five texts."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from harness.checks import all_checks
from tests.unit.page_tables import table_rows

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
RULES, ENTRIES = PAGE.split("## Every entry of the five texts")
SOURCES = [*(ROOT / "harness/doctor").glob("*.py"), *(ROOT / "runtime/operate").glob("*.py")]
SAID_IN = (  # every place where a text tells of trouble, or of a check for it
    *("S1:36", "S2:245", "S2:253", "S2:255", "S2:257", "S2:262", "S2:265", "S2:270", "S2:278"),
    *("S3:288", "S3:406", "S3:445", "S3:445", "S3:445"),
    *("S4:37", "S4:60", "S4:87", "S4:157", "S4:182", "S4:183", "S4:184", "S4:193", "S4:200"),
    *("S4:213", "S4:277", "S4:287", "S4:294", "S4:302", "S4:308", "S4:324", "S4:338", "S4:341"),
    *("S4:352", "S4:363", "S4:375", "S4:388", "S4:399", "S4:445"),
    *("S5:457", "S5:473", "S5:485", "S5:493", "S5:501", "S5:511", "S5:526", "S5:541"),
)


def _findings() -> dict[str, set[str]]:
    """Return name → severities of every finding that the code can make."""
    found: dict[str, set[str]] = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and getattr(node.func, "id", "") == "Finding"
                and node.args
            ):
                name = node.args[0]
                assert isinstance(name, ast.Constant), f"{path}:{node.lineno}: a name is a text"
                levels = {n.value for n in ast.walk(node.args[1]) if isinstance(n, ast.Constant)}
                found.setdefault(str(name.value), set()).update(map(str, levels))
    return found


FINDINGS = _findings()


def test_every_finding_has_a_row_with_its_severity() -> None:
    """No finding is missing, none is invented, and the severity is the code's."""
    rows = {row[0].strip("`"): row[1] for row in table_rows(RULES) if row[0].startswith("`")}
    rows = {name: row for name, row in rows.items() if not name.startswith("--")}
    assert rows.keys() == FINDINGS.keys()
    for name, levels in FINDINGS.items():
        severities = {"error" if level == "unreachable" else level for level in levels}
        severities &= {"error", "warning", "note"}
        assert all(severity in rows[name] for severity in severities), name


def test_every_finding_is_shown_by_a_test() -> None:
    """Some test names it."""
    tests = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]
    text = "\n".join(path.read_text(encoding="utf-8") for path in tests)
    shown = [name for name in FINDINGS if f'"{name}"' in text or f"[{name}]" in text]
    assert shown == list(FINDINGS)


def test_no_entry_of_the_texts_is_missing() -> None:
    """Each has a row, in order."""
    rows = [row for row in table_rows(ENTRIES) if row[0] != "said in"]
    assert tuple(row[0] for row in rows) == SAID_IN


def test_each_entry_leads_to_a_finding_a_scenario_or_a_guarantee() -> None:
    """And what it names exists."""
    guarantees = {check.name for check in all_checks()}
    for row in table_rows(ENTRIES)[1:]:
        words = re.findall(r"`([^`]+)`", row[2].partition(". Their")[0])
        assert words, row
        for word in words:
            there = word in FINDINGS or word in guarantees or (ROOT / word).is_file()
            assert there, f"{row[0]}: {word}"
