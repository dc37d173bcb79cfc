"""Requests made from the OpenAPI document, sent to a real worker: no 500, no broken promise."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from fastapi.routing import APIRoute

from runtime.app import ROUTERS
from tests.integration.app_deployment import Deployment, User, deployment

SEED, EXAMPLES = "20261121", "8"
ENDS_OWN_TOKEN = "/signout$"
# upstream's routes take more than they say: a text where nothing is expected, or a second slash
LENIENT = "positive_data_acceptance"
LIMITS = {"SIGNIN_RATE_LIMIT": "1000000"}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def parts() -> AsyncIterator[Deployment]:
    """Yield a worker with Redis; its first account is an admin."""
    async with deployment(workers=1, environ=LIMITS) as found:
        yield found


async def schemathesis(parts: Deployment, user: User, *options: str) -> None:
    """Send what schemathesis makes up for a user; fail with its report when something is wrong."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{parts.urls[0]}/openapi.json"]
    command += ["--header", f"Authorization: Bearer {user.token}", "--seed", SEED]
    command += ["--max-examples", EXAMPLES, "--phases", "examples,coverage,fuzzing"]
    command += ["--checks", "all", "--exclude-checks", LENIENT, "--continue-on-failure"]
    command += ["--no-color", "--warnings", "off", "--no-shrink", *options]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=parts.folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    if process.returncode:
        pytest.fail(out.decode(), pytrace=False)


@pytest.mark.timeout(300)
@pytest.mark.slow
async def test_every_route_keeps_what_the_document_promises(parts: Deployment) -> None:
    """An admin, and somebody who just signed in, find no 500 and no answer against its schema."""
    admin, other = await parts.user(), await parts.user()
    await schemathesis(parts, admin, "--exclude-path-regex", ENDS_OWN_TOKEN)
    await schemathesis(parts, other, "--include-path-regex", ENDS_OWN_TOKEN)
    log = parts.workers[0].log.read_text()
    assert "Traceback" not in log, log


async def test_document_has_every_route_with_a_model_of_its_answer(parts: Deployment) -> None:
    """Each route says what it answers; none is left to guess."""
    async with parts.http.get(f"{parts.urls[0]}/openapi.json") as answer:
        paths = (await answer.json())["paths"]
    routes = [r for router in ROUTERS for r in router.routes if isinstance(r, APIRoute)]
    assert {r.path for r in routes if r.include_in_schema} == set(paths)
    for route in routes:
        for method in route.methods or ():
            content = paths[route.path][method.lower()]["responses"]["200"]["content"]
            assert all(kind["schema"] for kind in content.values()), f"{method} {route.path}"
            assert content, f"{method} {route.path}"
            assert re.fullmatch(r"[^\n]+\.", route.description.partition("\n")[0]), route.path
