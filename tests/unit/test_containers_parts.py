"""Parts of the container host that need no engine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.commands import options
from harness.deploy import clean, doctor, engine, sweeper
from harness.deploy import redis_files as files
from harness.deploy.containers import ContainerHost, program_of
from harness.deploy.folder import RunFolder
from harness.deploy.guardian import started
from harness.deploy.host import parse_version
from harness.deploy.parts import missing_part
from harness.errors import MissingPart, UserError
from harness.options import load_with_options
from harness.repeat import _name
from harness.scenario import Redis

BASELINE = Path(__file__).parents[2] / "scenarios" / "baseline-cluster.yaml"


@pytest.fixture
def host(tmp_path: Path) -> ContainerHost:
    """Return a host that has started nothing."""
    return ContainerHost(None, RunFolder.create(tmp_path / "run"), engine.BUILT)  # type: ignore[arg-type]  # starts nothing


def test_nodes_share_an_address_and_differ_in_their_port(
    host: ContainerHost, tmp_path: Path
) -> None:
    """Ports and bus ports of six nodes and three sentinels are different, and not ephemeral."""
    nodes = [host.node("127.16.3", "redis", i, tmp_path) for i in range(6)]
    sentinels = [host.node("127.16.3", "sentinel", i, tmp_path) for i in range(3)]
    assert {node.host for node in nodes} == {"127.16.3.10"}
    assert {node.host for node in sentinels} == {"127.16.3.30"}
    ports = [node.port for node in (*nodes, *sentinels)]
    ports += [node.port + files.BUS for node in nodes]
    assert len(set(ports)) == len(ports)
    assert max(ports) < 32768


def test_a_node_listens_everywhere_and_logs_into_the_run(
    host: ContainerHost, tmp_path: Path
) -> None:
    """A published port arrives from outside; what the server says stands where it always does."""
    node = host.node("127.16.3", "redis", 1, tmp_path)
    files.write_node(node, Redis(), "sentinel", None)
    lines = (tmp_path / files.CONFIG).read_text().splitlines()
    log = (tmp_path / "run" / "logs" / "redis-1.log").resolve()
    assert {"bind 0.0.0.0", "port 6380", f'logfile "{log}"'} <= set(lines)
    assert "replica-announce-ip 127.16.3.10" in lines


@pytest.mark.parametrize(
    ("image", "program"),
    [
        (engine.BUILT, "redis-server"),
        ("redis:7", "redis-server"),
        ("valkey/valkey:8", "valkey-server"),
        ("localhost:5000/valkey-bundle", "valkey-server"),
        ("valkey/own-redis", "redis-server"),
    ],
)
def test_containers_of_valkey_start_its_own_server(image: str, program: str) -> None:
    """The last part of the image's name decides."""
    assert program_of(image) == program


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64", "7.0.15"),
        ("Valkey server v=8.0.1 sha=00000000:0 malloc=libc bits=64", "8.0.1"),
        ("no such program", "unknown"),
    ],
)
def test_versions_are_read_from_what_servers_print(said: str, version: str) -> None:
    """Redis and Valkey have the same form."""
    assert parse_version(said) == version


def test_an_engine_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its containers could not share loopback addresses and files."""
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.1:2375")
    with pytest.raises(MissingPart, match=r"is at tcp://10\.0\.0\.1:2375; expected .*unix://PATH"):
        engine.address()


def test_containers_without_an_engine_are_only_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The doctor tells both parts, and asks for neither."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    found = {f.part: f for f in doctor.examine() if f.part.startswith("container")}
    assert set(found) == {"container engine", "container image"}
    assert not any(finding.ok or finding.needed for finding in found.values())
    assert "harness images build" in found["container image"].remedy


def test_host_and_image_are_changes_of_the_scenario() -> None:
    """They stand in the plan and in the command that repeats it; --set has the last word."""
    chosen = options(1, ("images.redis=redis:8",), host="containers", images=("redis=redis:7",))
    scenario = load_with_options(BASELINE, chosen)
    assert (scenario.host, scenario.images.redis) == ("containers", "redis:8")
    assert "--set host=containers" in chosen.command_line("baseline-cluster")
    assert _name(BASELINE, chosen) == "baseline-cluster on containers"
    assert _name(BASELINE, options(1)) == "baseline-cluster"


@pytest.mark.parametrize("image", ["redis", "postgres=postgres:16", "=redis:7"])
def test_images_of_other_containers_are_refused(image: str) -> None:
    """The message names the parts that can be containers."""
    with pytest.raises(UserError, match=r"expected PART=IMAGE.*parts: redis, toxiproxy, nginx"):
        options(1, images=(image,))


def test_images_of_containers_count_where_they_are_used() -> None:
    """On processes there are none; nginx's only with a balancer; Redis has a default."""
    wanted = ("toxiproxy=own/toxiproxy", "nginx=nginx:1")
    scenario = load_with_options(BASELINE, options(1, images=wanted))
    assert scenario.used_images == {}
    chosen = options(1, host="containers", images=wanted)
    scenario = load_with_options(BASELINE, chosen)
    assert scenario.used_images == {"redis": engine.BUILT, "toxiproxy": "own/toxiproxy"}
    behind = scenario.model_copy(update={"balancer": "nginx"})
    assert behind.used_images == {**scenario.used_images, "nginx": "nginx:1"}


def test_parts_from_images_of_containers_need_no_program_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A scenario with links is not skipped for a Toxiproxy that its image has."""
    monkeypatch.setattr("harness.deploy.parts.find_toxiproxy", lambda: None)
    held = BASELINE.with_name("one-worker-held.yaml")
    alone = load_with_options(held, options(1, host="containers"))
    assert "toxiproxy-server was found neither" in missing_part(alone)
    images = ("toxiproxy=own/toxiproxy",)
    assert missing_part(load_with_options(held, options(1, images=images))) != ""
    boxed = load_with_options(held, options(1, host="containers", images=images))
    assert missing_part(boxed) == ""


@pytest.mark.parametrize("image", ["-rm", "", "redis 7"])
def test_images_of_containers_have_a_form(image: str) -> None:
    """An empty name, or one that an engine could not have, is a mistake of the user."""
    with pytest.raises(UserError, match=r"images\.redis"):
        load_with_options(BASELINE, options(1, images=(f"redis={image}",)))


def test_containers_are_orphans_when_their_guardian_is_dead() -> None:
    """The pid alone is not enough: numbers are used again. Another namespace cannot be judged."""
    pid = os.getpid()
    assert not clean._is_orphan(sweeper.owner(pid, started(pid)))
    assert clean._is_orphan(sweeper.owner(pid, started(pid) + 1))
    assert not clean._is_orphan(f"1-{pid}-1")
