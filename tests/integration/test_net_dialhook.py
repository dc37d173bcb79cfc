"""The dial hook against the installed redis-py, real servers and a real Toxiproxy."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from net_parts import guarded, linked, start_node, talk

from harness.clock import RunClock
from harness.deploy.folder import RunFolder
from harness.deploy.model import Deployment, Worker
from harness.deploy.service import clean_environment
from harness.deploy.spawner import Guardian
from harness.deploy.workers import HOOK, hook_environment
from harness.network.toxiproxy import find_toxiproxy
from harness.waiting import wait_for

pytestmark = [
    pytest.mark.skipif(find_toxiproxy() is None, reason="Toxiproxy is not installed"),
    pytest.mark.asyncio(loop_scope="module"),
]
Done = subprocess.CompletedProcess[str]
CLIENT = Path(__file__).parent / "dial_client.py"


async def _add_cluster(guardian: Guardian, deployment: Deployment) -> None:
    """Two nodes with half of the slots each, so that some keys need the other node."""
    config = ("cluster-enabled yes", "cluster-require-full-coverage no")
    hosts = {f"redis-{i}": f"{deployment.subnet}.{10 + i}" for i in (1, 2)}
    nodes = [
        await start_node(guardian, name, host, *config, f"cluster-announce-ip {host}")
        for name, host in hosts.items()
    ]
    for node, slots in zip(nodes, ("0 8191", "8192 16383"), strict=True):
        talk(node, f"CLUSTER ADDSLOTSRANGE {slots}")
    talk(nodes[0], f"CLUSTER MEET {nodes[1].host} {nodes[1].port}")
    deployment.nodes += nodes

    def healthy() -> bool:
        facts = [talk(node, "CLUSTER INFO") for node in nodes]
        return all(
            b"cluster_state:ok" in fact and b"cluster_slots_ok:16384" in fact for fact in facts
        )

    await wait_for(healthy, 10, "cluster of two is healthy")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def deployment(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    """Give a plain Redis (watched by a sentinel) and a cluster of two, all behind links."""
    async with guarded(tmp_path_factory.mktemp("dial")) as (guardian, site):
        plain = await start_node(guardian, "redis-0", f"{site.subnet}.10")
        site.nodes.append(plain)
        await _add_cluster(guardian, site)
        monitor = f"sentinel monitor mymaster {plain.host} {plain.port} 1"
        site.sentinels.append(
            await start_node(guardian, "sentinel-0", f"{site.subnet}.30", monitor)
        )
        links = await linked(guardian, site)
        yield site
        await links.close()


def _environment(deployment: Deployment, folder: Path) -> dict[str, str]:
    run, worker = RunFolder.create(folder), Worker(0, "127.0.0.1", 8080, "worker-0")
    hook = hook_environment(deployment, run, RunClock(), worker)
    return {**clean_environment(HOOK), **hook}


def _python(environment: dict[str, str], *arguments: str) -> Done:
    argv = [sys.executable, *arguments]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=30)


def _seed(deployment: Deployment, topology: str) -> tuple[str, int]:
    if topology == "sentinel":
        return deployment.sentinels[0].address
    return deployment.nodes[0 if topology == "plain" else 1].address


@pytest.mark.parametrize("style", ["sync", "async"])
@pytest.mark.parametrize("topology", ["plain", "sentinel", "cluster"])
async def test_every_dial_goes_through_a_link(
    deployment: Deployment, tmp_path: Path, style: str, topology: str
) -> None:
    """Seeds, discovered primaries and MOVED targets are all reached through the links alone."""
    host, port = _seed(deployment, topology)
    environment = _environment(deployment, tmp_path)
    done = _python(environment, str(CLIENT), style, topology, host, str(port))
    assert done.returncode == 0, done.stderr
    by_listen = {f"{link.listen[0]}:{link.listen[1]}": link.node for link in deployment.links}
    used = {by_listen.get(address, address) for address in json.loads(done.stdout)}
    expected = {
        "plain": {"redis-0"},
        "sentinel": {"redis-0", "sentinel-0"},
        "cluster": {"redis-1", "redis-2"},
    }
    assert used in (expected[topology], expected[topology] - {"sentinel-0"})
    assert used


async def test_without_links_dials_are_direct(deployment: Deployment, tmp_path: Path) -> None:
    """With no links in the environment redis-py is left as it is."""
    host, port = _seed(deployment, "plain")
    environment = {**_environment(deployment, tmp_path), "HARNESS_LINKS": "{}"}
    done = _python(environment, str(CLIENT), "async", "plain", host, str(port))
    assert json.loads(done.stdout) == [f"{host}:{port}"], done.stderr


@pytest.mark.parametrize("module", ["redis/connection.py", "redis/asyncio/connection.py"])
async def test_a_redis_py_without_the_private_names_ends_the_worker(
    tmp_path: Path, module: str
) -> None:
    """When the patched method is gone, the process ends with 97 and one clear line."""
    for name in ("redis/__init__.py", "redis/asyncio/__init__.py", module):
        path = tmp_path / "fake" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    path.write_text("class Connection:\n    def dial(self):\n        return self.host\n")
    name = module.removesuffix(".py").replace("/", ".")
    environment = clean_environment(HOOK, tmp_path / "fake")
    environment["HARNESS_LINKS"] = '{"127.0.0.1:1": "127.0.0.1:2"}'
    code = f"try:\n    import {name}\nexcept BaseException:\n    pass\nprint('went on')"
    done = _python(environment, "-c", code)
    assert done.returncode == 97
    assert done.stdout == ""
    assert done.stderr.startswith("harness dial hook: redis-py")
    assert "is gone" in done.stderr
    assert len(done.stderr.splitlines()) == 1


async def test_the_sitecustomize_that_the_hook_hides_still_runs(tmp_path: Path) -> None:
    """The hook runs the next sitecustomize on the path."""
    (tmp_path / "sitecustomize.py").write_text("import os\nos.environ['HIDDEN'] = 'ran'\n")
    code = "import os; print(os.environ.get('HIDDEN'))"
    done = _python(clean_environment(HOOK, tmp_path), "-c", code)
    assert done.stdout.strip() == "ran", done.stderr


SERVER = """
import asyncio, sys, time, uvicorn
async def app(scope, receive, send):
    pass
async def main():
    config = uvicorn.Config(app, host=sys.argv[1], port=8099, lifespan="off", log_level="error")
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    {block}
    await asyncio.sleep(0.1)
    server.should_exit = True
    await serving
asyncio.run(main())
"""


def _stalls(deployment: Deployment, block: str, folder: Path) -> list[dict[str, float]]:
    """Return the records of a small uvicorn server whose loop runs `block` once."""
    run, worker = RunFolder.create(folder), Worker(2, "127.0.0.1", 8080, "worker-2")
    hook = hook_environment(deployment, run, RunClock(), worker)
    subprocess.run(
        [sys.executable, "-c", SERVER.replace("{block}", block), f"{deployment.subnet}.9"],
        env={**clean_environment(HOOK), **hook},
        check=True,
        timeout=30,
    )
    (path,) = run.history.glob("worker-2-*.jsonl")
    header, *records = [json.loads(line) for line in path.read_text().splitlines()]
    assert header["k"] == "header"
    assert header["source"] == path.stem
    return [record for record in records if record["k"] == "stall"]


async def test_a_blocked_loop_is_reported_at_once(deployment: Deployment, tmp_path: Path) -> None:
    """A 0.3 s synchronous wait on the loop is one record of at least 250 ms."""
    stalls = _stalls(deployment, "time.sleep(0.3)", tmp_path)
    assert max(stall["ms"] for stall in stalls) >= 250
    assert all(stall["worker"] == 2 for stall in stalls)
    assert all(stall["raw_ms"] >= stall["ms"] for stall in stalls)
