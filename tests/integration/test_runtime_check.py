"""`runtime check` against real servers: what it says, and how it ends."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from bus_cluster import ClusterSet
from bus_servers import SentinelSet, free_port, serving
from secure_parts import APP, APP_PASSWORD, PREFIX, WATCHER_PASSWORD, Security

SECRET = "0123456789abcdef0123456789abcdef"
HOST = "127.91.0.1"


async def check(folder: Path, **environ: str) -> tuple[int, str]:
    """Run the command; return its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "runtime", "check"),
        env={**os.environ, "WEBUI_SECRET_KEY": SECRET, "DATA_DIR": str(folder), **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    text = output.decode()
    assert "Traceback" not in text
    for secret in (SECRET, APP_PASSWORD, "p%40ss", WATCHER_PASSWORD):
        assert secret not in text
    return process.returncode or 0, text


async def test_a_plain_server(tmp_path: Path) -> None:
    """Warnings do not fail; the database's absence is a note."""
    async with serving(tmp_path) as server:
        await server.call("CONFIG", "SET", "maxclients", "500")
        code, text = await check(tmp_path, REDIS_URL=server.url)
    assert code == 0, text
    for said in ("maxclients is 500", "timeout is 0", "nothing is saved", "configuration: ok"):
        assert said in text


async def test_nobody_there(tmp_path: Path) -> None:
    """A server that is away is not a wrong configuration: 4."""
    code, text = await check(tmp_path, REDIS_URL=f"redis://{HOST}:{free_port()}/0")
    assert code == 4, text
    assert "unreachable:" in text


async def test_a_database_that_is_away(tmp_path: Path) -> None:
    """So is a database."""
    url = f"postgresql://app:{APP_PASSWORD[:3]}x@{HOST}:{free_port()}/none"
    code, text = await check(tmp_path, DATABASE_URL=url)
    assert code == 4, text
    assert "unreachable: DATABASE_URL" in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda url: url.replace(f"{APP}:", "nobody:"), "WRONGPASS"),
        (lambda url: url.replace("ssl_ca_certs=", "ssl_ca_path="), "authority"),
    ],
)
async def test_wrong_credentials_and_authority(tmp_path: Path, change, said: str) -> None:  # noqa: ANN001 - a function of the URL
    """Settings that cannot work end with 3."""
    async with serving(tmp_path, security=Security(tmp_path / "tls")) as server:
        code, text = await check(tmp_path, REDIS_URL=change(server.url))
    assert code == 3, text
    assert said in text
    assert "[redis-refuses]" in text


async def test_a_missing_permission_is_named(tmp_path: Path) -> None:
    """Nothing is executed; what is missing is told with the rule to add."""
    async with serving(tmp_path, security=Security(tmp_path / "tls")) as server:
        rules = ["+multi", "+discard", "+config|get", "-zadd", "-cluster"]
        await server.call("ACL", "SETUSER", APP, *rules)
        environ = {"REDIS_URL": server.url, "REDIS_KEY_PREFIX": PREFIX}
        code, text = await check(tmp_path, **environ)
        assert code == 3, text
        assert "`zadd`" in text
        assert "[permission-missing]" in text
        assert "+zadd" in text
        assert text.count("error:") == 1, text
        await server.call("ACL", "SETUSER", APP, "+zadd")
        code, text = await check(tmp_path, **environ)
        assert code == 0, text
        assert await server.call("DBSIZE") == 0
        await server.call("ACL", "SETUSER", APP, "-multi")
        environ["REDIS_URL"] = f"{server.url}&ssl_cert_reqs=none"
        code, text = await check(tmp_path, **environ)
        assert code == 0, text
        assert "[permissions-unknown]" in text
        assert "[tls-not-verified]" in text


async def test_sentinels_and_what_is_not_one(tmp_path: Path) -> None:
    """The primary behind sentinels is examined; a sentinel or replica as REDIS_URL is refused."""
    servers = SentinelSet(tmp_path)
    try:
        await servers.start()
        code, text = await check(tmp_path, **servers.environment())
        assert code == 0, text
        assert "only 1 of the sentinels" in text
        wrong = {"[redis-is-sentinel]": servers.sentinel, "[redis-is-replica]": servers.nodes[1]}
        for said, node in wrong.items():
            code, text = await check(tmp_path, REDIS_URL=node.url)
            assert (code, said in text) == (3, True), text
        environ = {**servers.environment(), "REDIS_URL": "redis://other:6379/0"}
        code, text = await check(tmp_path, **environ)
        assert (code, "watches no service `other`" in text) == (3, True), text
    finally:
        servers.kill()


async def test_a_cluster_and_what_is_not_one(tmp_path: Path) -> None:
    """Every primary is examined; the flag and the server have to agree."""
    servers = ClusterSet(tmp_path)
    try:
        await servers.start()
        code, text = await check(tmp_path, **servers.environment())
        assert code == 0, text
        assert all(f"{HOST}:{node.port}" in text for node in servers.nodes[:3])
        code, text = await check(tmp_path, REDIS_URL=servers.nodes[0].url)
        assert (code, "[redis-is-cluster]" in text) == (3, True), text
        assert "set REDIS_CLUSTER=true" in text
    finally:
        servers.kill()


async def test_no_cluster_behind_the_flag(tmp_path: Path) -> None:
    """REDIS_CLUSTER towards a plain server is a wrong setting, not an outage."""
    async with serving(tmp_path) as server:
        code, text = await check(tmp_path, REDIS_URL=server.url, REDIS_CLUSTER="true")
    assert (code, "unset REDIS_CLUSTER" in text) == (3, True), text
