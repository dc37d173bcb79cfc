"""Projects of deploy/compose, really started: a run against each as an external deployment."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
import pytest_asyncio

from harness.deploy.images import SETS, build
from harness.waiting import wait_for
from tests.integration.compose_parts import Project, command, project
from tests.integration.container_parts import usable
from tests.integration.external_parts import ADMIN, PASSWORD, call, emails, sign_up
from tests.integration.harness_cli import harness, only_run, scenario_text

LIGHT = {
    "load": "{users: 6, reads_per_s: 4, chats: {tokens: 20, tokens_per_s: 10}}",
    "focus": "{stops_per_s: 2, sign_outs_per_s: 1, canaries_per_s: 2, after_s: 2}",
    "duration_s": "10",
}
SECRET = {"HARNESS_ADMIN_PASSWORD": PASSWORD}
JUDGED = ("sign-out-honoured", "stop-ends-task", "load-healthy", "session-read-your-writes")
# What is true of a healthy project all the same: docs/deploy.md says so.
NOTED = {"sentinel": {"writes-may-be-lost"}}
USERS_ADDRESS = "http://127.0.0.1:8080"  # CORS_ALLOW_ORIGIN, unless set
wanted = pytest.mark.skipif(
    os.environ.get("TESTS") != "compose", reason="`make test-compose` builds the images and runs it"
)
pytestmark = [
    wanted,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.asyncio(loop_scope="module"),
]


class Deployed(NamedTuple):
    """A project that runs, and the token of its first account."""

    project: Project
    token: str


@pytest.fixture(scope="module")
def _images(found_engine: Any) -> None:
    """Build what the projects start."""
    if hasattr(found_engine, "images"):
        for part in SETS["compose"]:
            print(build(part))


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=["standalone", "sentinel", "cluster"]
)
async def deployment(
    request: pytest.FixtureRequest, found_engine: Any, _images: None
) -> AsyncIterator[Deployed]:
    """Yield a started project and its admin's token; skipped by name without compose."""
    name = f"{request.node.name}[{request.param}]"
    engine = usable(found_engine, name)
    if not command():
        pytest.skip(f"{name}: neither docker-compose nor its plugin is installed")
    async with project(request.param, engine) as started:
        yield Deployed(started, await sign_up(started.url))


async def test_the_doctor_finds_a_project_healthy(deployment: Deployed, tmp_path: Path) -> None:
    """Inside an instance, of the variables of all three, and from outside behind nginx."""
    parts = deployment.project
    said = parts("exec", "-T", "runtime-1", "python3", "-m", "runtime", "check", "--json")
    assert _named(said) == NOTED.get(parts.kind, set()), said
    words: list[str | Path] = ["--offline"]
    for number in (1, 2, 3):
        file = tmp_path / f"{number}.env"
        file.write_text(parts.environment(f"runtime-{number}"))
        words += ["--env", file]
    for asked in (words, ["--url", parts.url, "--admin", ADMIN, "--origin", USERS_ADDRESS]):
        done = await asyncio.to_thread(harness, "doctor", "--json", *asked, **SECRET)
        assert (done.returncode, _named(done.stdout)) == (0, set()), done.stdout + done.stderr
    assert await emails(parts.url, deployment.token) == [ADMIN]


def _named(findings: str) -> set[str]:
    """Return the names of findings that a doctor printed as JSON."""
    return {finding["name"] for finding in orjson.loads(findings)["findings"]}


async def _run(parts: Project, folder: Path) -> dict[str, Any]:
    """Run a light scenario against the project; return its findings by name."""
    scenario = folder / "scenario.yaml"
    scenario.write_text(scenario_text(**LIGHT))
    words = ("run", scenario, "--url", parts.url, "--admin", ADMIN, "--provider", parts.provider)
    words += ("--allow-host", parts.gateway, "--max-rate", "100", "--reports", folder / "reports")
    done = await asyncio.to_thread(harness, *words, timeout=200, **SECRET)
    assert done.returncode in (0, 1, 2), done.stdout + done.stderr
    summary = orjson.loads((only_run(folder / "reports") / "summary.json").read_bytes())
    print(summary["headline"])  # pytest shows it when the test fails
    return {finding["name"]: finding for finding in summary["findings"]}


async def test_a_run_against_the_compose_project(deployment: Deployed, tmp_path: Path) -> None:
    """Sessions, sign-outs, stops and events hold behind its nginx; its accounts are gone after."""
    parts, token = deployment.project, deployment.token
    found = await _run(parts, tmp_path)
    for name in JUDGED:
        assert found[name]["verdict"] == "pass", found[name]
    assert found["stop-ends-task"]["quantities"]["stops"] > 0
    assert await emails(parts.url, token) == [ADMIN]
    if parts.kind == "sentinel":
        await _fails_over(parts, token)


async def _fails_over(parts: Project, token: str) -> None:
    """Kill the primary's container: another is promoted, the app goes on, the old one follows."""

    def primary() -> str:
        words = ("sentinel", "get-master-addr-by-name", "mymaster")
        return next(iter(parts.redis("sentinel-2", *words, port=26379)), "")

    before = primary()
    parts("kill", "redis-1")
    await wait_for(lambda: primary() not in ("", before), 60, "another primary")
    await parts.ready()
    status, _ = await call("GET", f"{parts.url}/api/v1/auths/", None, token)
    assert status == 200
    parts("start", "redis-1")
    await wait_for(lambda: _follows(parts), 60, "the old primary follows")


def _follows(parts: Project) -> bool:
    return {"role:slave", "master_link_status:up"} <= set(
        parts.redis("redis-1", "info", "replication")
    )
