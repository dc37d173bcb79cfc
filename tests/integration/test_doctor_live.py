"""What the doctor finds of replicas that run: one deployment, of which each worker has a fault."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from app_deployment import PORT, REDIS, SUBNET, Deployment, Program
from external_parts import ADMIN, PASSWORD, call, sign_up
from harness_cli import command, environment
from redis.asyncio import Redis

from harness.deploy.balancer import find_nginx
from harness.doctor.command import Asked, examine
from harness.waiting import wait_for
from tests.integration.test_doctor_servers import GOOD

READY_S = 60.0
CHAT = "https://chat.example"
GOOD_0, GOOD_1, ODD, PREFIX, ALONE = range(5)
FAULTS: list[dict[str, str]] = [
    {},
    {},
    {"WEBUI_SECRET_KEY": "f" * 32, "ENABLE_WEBSOCKET_SUPPORT": "false"},
    {"REDIS_KEY_PREFIX": "other"},
    {"REDIS_URL": "", "CORS_ALLOW_ORIGIN": "*"},
]
FRONTS = {  # port → workers behind it, and whether sockets may upgrade
    8081: ((GOOD_0, ALONE), True),
    8082: ((GOOD_0,), False),
    8083: ((ODD, GOOD_0), True),
}
UPGRADE = 'proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";'
NGINX = """
daemon off; error_log stderr; pid {folder}/nginx.pid;
events {{}}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  {fronts}
}}
"""
FRONT = """
  upstream u{port} {{ {servers} }}
  server {{
    listen {host}:{port};
    location / {{ proxy_pass http://u{port}; proxy_http_version 1.1; {upgrade} }}
  }}
"""


class Replicas(Deployment):
    """Starts its workers two by two: five at once starve each other."""

    async def __aenter__(self) -> Replicas:
        self.http = aiohttp.ClientSession()
        await self.redis.start()
        for first in range(0, len(self.workers), 2):
            for worker in self.workers[first : first + 2]:
                await worker.start()
            for url in self.urls[first : first + 2]:
                await wait_for(lambda u=url: is_ready(u), READY_S, f"{url} ready")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


async def is_ready(url: str) -> bool:
    """Tell whether a worker says that it is ready."""
    return (await call("GET", f"{url}/ready"))[0] == 200


@contextlib.asynccontextmanager
async def replicas(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Deployment]:
    """Run a worker per fault, their admin, and a Redis that is set as it should be."""
    monkeypatch.setenv("HARNESS_ADMIN_PASSWORD", PASSWORD)
    environ = {"CORS_ALLOW_ORIGIN": CHAT}
    async with Replicas(folder, workers=len(FAULTS), environ=environ, environs=FAULTS) as parts:
        await sign_up(parts.urls[0])
        for name, value in {**GOOD, "min-replicas-to-write": "0"}.items():
            await redis(name, value)
        yield parts


async def redis(name: str, value: str) -> None:
    """Set something of the deployment's Redis."""
    async with Redis(host=REDIS) as client:
        await client.config_set(name, value)


@contextlib.asynccontextmanager
async def nginx(folder: Path) -> AsyncIterator[None]:
    """Run nginx with every front."""
    fronts = "".join(
        FRONT.format(
            port=port,
            host=f"{SUBNET}.5",
            servers=" ".join(f"server {SUBNET}.{50 + n}:{PORT};" for n in behind),
            upgrade=UPGRADE if upgrades else "",
        )
        for port, (behind, upgrades) in FRONTS.items()
    )
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, fronts=fronts))
    program = Program([str(find_nginx()), "-c", f"{folder}/nginx.conf"], {}, folder / "nginx.log")
    await program.start()
    try:
        await wait_for(lambda: call("GET", f"{front(8081)}/health"), 20, "nginx answers")
        yield
    finally:
        await program.stop()


def front(port: int) -> str:
    """Return the URL of a front."""
    return f"http://{SUBNET}.5:{port}"


async def names(*urls: str, origin: str = CHAT, admin: str = ADMIN) -> set[str]:
    """Return the names of what the doctor finds of these."""
    findings = await examine(Asked(urls=urls, admin=admin, origin=origin))
    assert all(f.evidence and f.consequence and f.fix for f in findings)
    return {finding.name for finding in findings}


async def healthy(parts: Deployment) -> None:
    """Examine the good workers and Redis by the command line: nothing is found."""
    words = ["doctor", "--admin", ADMIN, "--origin", CHAT, "--json"]
    for url in parts.urls[: GOOD_1 + 1]:
        words += ["--url", url]
    words += ["--redis", f"redis://{REDIS}:6379/0"]
    done = await _run(*words)
    assert done == (0, {"findings": []})


async def _run(*words: str) -> tuple[int, dict[str, object]]:
    process = await asyncio.create_subprocess_exec(
        *command(*words), env=environment(), stdout=-1, stderr=sys.stderr
    )
    out, _ = await asyncio.wait_for(process.communicate(), 90)
    return process.returncode or 0, json.loads(out)


@pytest.mark.skipif(find_nginx() is None, reason="nginx is not installed")
async def test_each_fault_of_running_replicas_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two good ones show nothing; each fault beside a good one, or behind nginx, is named."""
    async with replicas(tmp_path, monkeypatch) as parts, nginx(tmp_path):
        urls = parts.urls
        good = urls[GOOD_0]
        await healthy(parts)
        crossed = {"events-do-not-cross", "settings-differ"}
        assert await names(good, urls[ODD]) == {"token-refused", "no-websocket"}
        assert await names(good, urls[PREFIX]) == crossed
        assert await names(good, urls[ALONE]) == crossed | {"any-origin"}
        assert crossed <= await names(front(8081))
        assert await names(front(8082)) == {"no-websocket"}
        assert "polling-without-stickiness" in await names(front(8083), admin="")
        assert await names(good, origin="https://other.example") == {"origin-refused"}
        assert await names(good, admin="") == {"not-examined"}
        assert await names(good, f"http://{SUBNET}.99:{PORT}") == {"no-answer"}
        await parts.redis.stop(kill=True)
        await wait_for(lambda: _not_ready(good), 10, "not ready")
        assert "not-ready" in await names(good, admin="")


async def _not_ready(url: str) -> bool:
    return (await call("GET", f"{url}/ready"))[0] == 503
