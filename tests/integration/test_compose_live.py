"""Projects of deploy/compose, really started: a run against each as an external deployment."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from harness.deploy.images import SETS, build
from harness.waiting import wait_for
from tests.integration.compose_parts import Project, command, project
from tests.integration.external_parts import ADMIN, PASSWORD, call, emails, sign_up
from tests.integration.harness_cli import harness, only_run, scenario_text

LIGHT = {
    "load": "{users: 6, reads_per_s: 4, chats: {tokens: 20, tokens_per_s: 10}}",
    "focus": "{stops_per_s: 2, sign_outs_per_s: 1, canaries_per_s: 2, after_s: 2}",
    "duration_s": "10",
}
JUDGED = ("sign-out-honoured", "stop-ends-task", "load-healthy", "session-read-your-writes")
wanted = pytest.mark.skipif(
    os.environ.get("TESTS") != "compose", reason="`make test-compose` builds the images and runs it"
)
pytestmark = [wanted, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def _images(found_engine: Any) -> None:
    """Build what the projects start."""
    if hasattr(found_engine, "images"):
        for part in SETS["compose"]:
            print(build(part))


@pytest.fixture(params=["standalone", "sentinel", "cluster"])
async def deployment(
    request: pytest.FixtureRequest, engine: Any, _images: None
) -> AsyncIterator[Project]:
    """Yield a started project; skipped by name without compose."""
    if not command():
        pytest.skip(f"{request.node.name}: neither docker-compose nor its plugin is installed")
    async with project(request.param, engine) as started:
        yield started


async def _run(parts: Project, folder: Path) -> dict[str, Any]:
    """Run a light scenario against the project; return its findings by name."""
    scenario = folder / "scenario.yaml"
    scenario.write_text(scenario_text(**LIGHT))
    words = ("run", scenario, "--url", parts.url, "--admin", ADMIN, "--provider", parts.provider)
    words += ("--allow-host", parts.gateway, "--max-rate", "100", "--reports", folder / "reports")
    secret = {"HARNESS_ADMIN_PASSWORD": PASSWORD}
    done = await asyncio.to_thread(harness, *words, timeout=200, **secret)
    assert done.returncode in (0, 1, 2), done.stdout + done.stderr
    summary = orjson.loads((only_run(folder / "reports") / "summary.json").read_bytes())
    print(summary["headline"])  # pytest shows it when the test fails
    return {finding["name"]: finding for finding in summary["findings"]}


async def test_a_run_against_the_compose_project(deployment: Project, tmp_path: Path) -> None:
    """Sessions, sign-outs, stops and events hold behind its nginx; its accounts are gone after."""
    token = await sign_up(deployment.url)
    found = await _run(deployment, tmp_path)
    for name in JUDGED:
        assert found[name]["verdict"] == "pass", found[name]
    assert found["stop-ends-task"]["quantities"]["stops"] > 0
    assert await emails(deployment.url, token) == [ADMIN]
    if deployment.kind == "sentinel":
        await _fails_over(deployment, token)


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
