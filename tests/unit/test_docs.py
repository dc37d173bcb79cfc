"""The documentation names everything that the code has, with the defaults of the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click import Group
from fastapi.routing import APIRoute
from pydantic_core import PydanticUndefined

from harness.bug_specs import Bug, Side
from harness.checks import all_checks
from harness.cli import cli
from harness.fault_specs import FAULT_SPECS
from harness.faults.injector import KINDS
from harness.history import records
from harness.history.errors import table_markdown
from harness.load_specs import Chats, Load, Piece, Pollers, Ramp, Reconnect, Soak, Spike, Steps
from harness.neighbour_specs import Neighbour
from harness.report.html import FILES, FOLDERS
from harness.report.summary import __doc__ as summary_format
from harness.scenario import Focus, Images, Redis, Scenario
from harness.targets.external.description import External
from harness.telemetry_specs import Telemetry
from harness.verdict import ExitCode
from harness.vocabulary import ENOUGH, NODE_ROLES, WORKER_ROLES, default_bounds
from runtime.app import ROUTERS
from runtime.redis.keys import Keys
from runtime.settings import Settings
from tests.mutants.catalogue import MUTANTS
from tests.unit.page_tables import table_rows

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")
PLACE = re.compile(r"(^|[\s`'\"(])/(home|root|work|tmp|Users)/")


def _page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _section(page: str, title: str) -> str:
    """Return the text from a heading, or a table's introduction, to the next."""
    start = page.index(title)
    end = re.search(r"\n(## |Under |Of |And of )", page[start + len(title) :])
    return page[start:] if end is None else page[start : start + len(title) + end.start()]


def _shown(value: Any) -> str | None:
    """Return a default as the tables show it; None for what they say in words."""
    if isinstance(value, bool | int | float | str) and value != "":
        return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"
    return f"`{list(value)}`" if isinstance(value, tuple) and value else None


PARTS = [
    ("Of the file itself:", Scenario),
    ("Under `images`:", Images),
    ("Under `redis`:", Redis),
    ("Under `load`:", Load),
    ("Under `load.chats`:", Chats),
    ("Of a piece of `load.shape`:", Piece),
    ("Under `load.spike`:", Spike),
    ("Under `load.ramp`:", Ramp),
    ("Under `load.steps`", Steps),
    ("Under `load.soak`:", Soak),
    ("Under `load.pollers`", Pollers),
    ("Under `load.reconnect`", Reconnect),
    ("Under `focus`", Focus),
    ("Under `neighbour`", Neighbour),
    ("Under `telemetry`", Telemetry),
    ("Under `bug`", Bug),
    ("Of every side:", Side),
]


@pytest.mark.parametrize(("title", "model"), PARTS, ids=lambda part: getattr(part, "__name__", ""))
def test_scenario_keys_stand_in_their_table_with_their_defaults(title: str, model: Any) -> None:
    """Every key of a part of the scenario has a row, and the row shows the code's default."""
    rows = {row[0]: row[1] for row in table_rows(_section(_page("docs/scenarios.md"), title))}
    del rows["key"]
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    assert rows.keys() == {f"`{name}`" for name in fields}
    for name, field in fields.items():
        required = field.default is PydanticUndefined
        wanted = "required" if required else _shown(field.default)
        assert wanted is None or rows[f"`{name}`"] == wanted, name


@pytest.mark.parametrize("model", FAULT_SPECS.values(), ids=lambda m: m.__name__)
def test_fault_keys_stand_in_the_tables_of_faults(model: Any) -> None:
    """Every key of every kind of fault has a row, and its default is shown in it."""
    page = _page("docs/scenarios.md")
    rows = table_rows(_section(page, "Of every fault:")) + table_rows(
        _section(page, "And of one kind:")
    )
    for name, field in model.model_fields.items():
        found = [cell for row in rows if row[0] == f"`{name}`" for cell in row]
        assert found, name
        shown = None if field.default is PydanticUndefined else _shown(field.default)
        assert shown is None or any(shown in cell for cell in found), name


def test_roles_stand_in_the_row_of_their_topology() -> None:
    """A topology's row holds its roles and no others; worker roles have a row each."""
    page = _page("docs/scenarios.md")
    rows = {row[0]: row[1] for row in table_rows(_section(page, "## Roles of nodes"))}
    for topology, roles in NODE_ROLES.items():
        assert set(re.findall(r"`([^`]+)`", rows[f"`{topology}`"])) == set(roles)
    workers = {row[0] for row in table_rows(_section(page, "## Worker roles"))}
    assert workers - {"role"} == {f"`{role}`" for role in (*WORKER_ROLES, "worker:N")}


def test_minimum_loads_and_bounds_have_a_row_each() -> None:
    """The tables hold every minimum load, and every bound with the default of bounds.yaml."""
    page = _page("docs/scenarios.md")
    loads = {row[0] for row in table_rows(_section(page, "## Minimum loads"))}
    assert loads - {"name"} == {f"`{name}`" for name in ENOUGH}
    bounds = {row[0]: row[1] for row in table_rows(_section(page, "## Bounds"))}
    del bounds["name"]
    assert bounds == {f"`{name}`": f"`{value}`" for name, value in default_bounds().items()}


@pytest.mark.parametrize("check", all_checks(), ids=lambda check: check.name)
def test_guarantees_have_a_section_with_their_sentence(check: Any) -> None:
    """The reference of checks quotes each guarantee as reports say it."""
    page = _page("docs/checks.md")
    assert f"### {check.name}\n\n> {check.sentence}\n" in page
    section = page.split(f"### {check.name}\n")[1].split("\n### ")[0]
    assert "**Counted:**" in section
    assert "**Unknown:**" in section
    for capability in check.needs:
        assert f"`{capability}`" in section


def test_faults_have_a_row_each() -> None:
    """The table of faults holds every kind, the table of cuts every mode."""
    rows = {row[0] for row in table_rows(_page("docs/faults.md"))}
    modes = FAULT_SPECS["cut"].model_fields["mode"].annotation.__args__  # type: ignore[union-attr]  # a Literal
    assert {f"`{kind}`" for kind in (*KINDS, *modes)} <= rows


def _tables(text: str | None) -> Iterator[str]:
    return (line for line in (text or "").splitlines() if line.startswith("|"))


def test_history_page_holds_the_record_format_and_the_error_table() -> None:
    """Every line of the format's tables stands in the page as it is in the code.

    Red? Copy the tables of harness/history/records.py, or what `table_markdown()` returns.
    """
    page = _page("docs/history.md")
    missing = [line for line in _tables(records.__doc__) if line not in page]
    missing += [line for line in _tables(table_markdown()) if line not in page]
    assert missing == []


def test_results_page_names_every_artifact_and_exit_code() -> None:
    """Every file of a run, every key of summary.json and every exit code has a row."""
    rows = {row[0] for row in table_rows(_page("docs/results.md"))}
    files = {f"`{name}`" for name in (*FILES, "report.html")}
    folders = {f"`{name}/`" for name in (*FOLDERS, "data")}
    codes = {str(int(code)) for code in ExitCode}
    assert files | folders | codes <= rows
    keys = ", ".join(
        row[0] for row in table_rows(_section(_page("docs/results.md"), "## summary.json"))
    )
    for line in list(_tables(summary_format))[2:]:
        for key in line.split("|")[1].split(","):
            assert f"`{key.strip()}`" in keys


def test_runtime_page_names_every_variable_route_and_key() -> None:
    """Nothing that the runtime reads, answers or stores is left out."""
    page = _page("docs/runtime.md")
    variables = [name.upper() for name in Settings.model_fields]
    both = page + _page("docs/telemetry.md")
    assert [name for name in variables if f"`{name}`" not in both] == []
    routes = [
        f"`{method} {route.path}`"
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    ]
    assert len(routes) > 10
    assert [route for route in routes if route not in page] == []
    cells = [row[0] for row in table_rows(_section(page, "## Redis keys"))]
    documented = {key for cell in cells for key in re.findall(r"`([^`]+)`", cell)}
    assert documented == set(_redis_keys())


def _redis_keys() -> Iterator[str]:
    keys = Keys("P")
    yield from (keys.events, keys.events_channel, keys.session_pool, keys.tasks)
    yield from (keys.task_commands, keys.task_stops)
    yield from (keys.events_origin("ID"), keys.instance("ID"), keys.session("ID"))
    yield from (keys.task("ID"), keys.tasks_item("ID"), keys.token_revoked("JTI"))
    yield keys.user_revoked("ID")
    yield from (keys.base_models, keys.base_models_tag, keys.base_models_lock, keys.config("KEY"))
    yield keys.rate_limit("key", 7).replace("{key}:7", "{KEY}:BUCKET")
    yield keys.response_stream("ID")
    yield from (keys.session_pool_seen, ":users", ":instances", keys.session_pool_room("ROOM"))
    yield from (keys.session_pool_instance("ID"), keys.session_pool_fence, keys.usage_pool_fence)
    yield from (keys.usage_pool, keys.usage_pool_model("MODEL"), keys.models)
    yield keys.leader("maintenance")
    yield from (keys.document("ID")[0], ":meta", keys.documents_unsaved)


def test_readme_lists_every_scenario_and_family() -> None:
    """The README has a row for each scenario file, linked, and for each family of guarantees."""
    rows = {row[0] for row in table_rows(_page("README.md"))}
    names = [path.stem for path in (ROOT / "scenarios").glob("*.yaml")]
    assert {f"[{name}](scenarios/{name}.yaml)" for name in names} <= rows
    assert {check.family for check in all_checks()} <= rows
    assert f"[{len(all_checks())} guarantees](docs/checks.md)" in _page("README.md")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_readme_says_what_catches_each_mutant(mutant: Any) -> None:
    """A mutant's row names its scenario and exactly the guarantees that must be red."""
    rows = {row[0]: row[1:] for row in table_rows(_page("README.md"))}
    scenario, red = rows[f"`{mutant.name}`"]
    assert scenario == mutant.scenario
    assert set(red.split(", ")) == set(mutant.must)


def _words() -> str:
    return "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


def test_every_make_target_and_command_is_told_of() -> None:
    """The pages name each target of the Makefile and each command of the harness."""
    targets = re.findall(r"^([a-z-]+):.*## ", _page("Makefile"), re.MULTILINE)
    assert isinstance(cli, Group)
    wanted = [f"make {name}" for name in targets if name != "help"]
    wanted += [f"harness {name}" for name in cli.commands if name != "version"]
    text = _words()
    assert [words for words in wanted if words not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere_and_no_path_is_of_one_machine(page: Path) -> None:
    """Every relative link names a file, every anchor a heading in it."""
    text = page.read_text(encoding="utf-8")
    assert PLACE.search(text) is None
    for link in LINK.findall(text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


def _anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {title.replace(" ", "-") for title in kept}


def test_scenarios_and_descriptions_of_the_pages_are_valid() -> None:
    """A scenario that a page shows whole can be run as it stands, a deployment be described."""
    blocks = re.findall(r"```yaml\n(.*?)```", _words(), re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        data = yaml.safe_load(block)
        model = External if "urls" in data else Scenario
        model.model_validate(data)


def test_test_files_have_names_of_their_own() -> None:
    """Names of modules are what pytest imports: two of one name cannot be collected together."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
