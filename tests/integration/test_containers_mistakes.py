"""What is missing for containers is told in one line; the image is made of local programs."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from harness.deploy import engine as engines
from harness.deploy import images as recipes
from harness.deploy.containers import ContainerHost
from harness.deploy.folder import RunFolder
from harness.deploy.host import server_version
from harness.deploy.lease import Lease
from harness.deploy.spawner import Guardian
from harness.errors import MissingPart, UserError
from tests.integration.harness_cli import harness, processes_naming, scenario_text

NOWHERE = "localhost:1/nobody/redis:7"


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    """Return a scenario file on containers."""
    path = tmp_path / "quick.yaml"
    path.write_text(scenario_text(host="containers"))
    return path


def test_containers_without_an_engine_are_skipped(scenario: Path, tmp_path: Path) -> None:
    """Exit 4, and the line names the socket and what to do."""
    where = f"unix://{tmp_path}/no.sock"
    done = harness("run", scenario, "--reports", tmp_path / "reports", DOCKER_HOST=where)
    assert done.returncode == 4, done.stdout + done.stderr
    [line] = [x for x in done.stdout.splitlines() if x.startswith("SKIPPED")]
    assert f"no container engine answers at {where}" in line
    assert "make test-containers" in line
    assert not processes_naming(str(tmp_path))


@pytest.mark.usefixtures("engine")
def test_containers_with_a_remover_that_cannot_be_had(scenario: Path, tmp_path: Path) -> None:
    """Ryuk is asked for by its own setting; without its image exit 4 and how to do without."""
    done = harness(
        *("run", scenario, "--reports", tmp_path / "reports"),
        TESTCONTAINERS_RYUK_DISABLED="false",
        RYUK_CONTAINER_IMAGE=NOWHERE,
    )
    assert done.returncode == 4, done.stdout + done.stderr
    assert f"image {NOWHERE} is not here" in done.stdout
    assert "Set TESTCONTAINERS_RYUK_DISABLED=true" in done.stdout


@pytest.mark.usefixtures("engine")
def test_containers_without_the_image_are_skipped(scenario: Path, tmp_path: Path) -> None:
    """Exit 4, and the line has the engine's own words about the image."""
    done = harness(
        *("run", scenario, "--reports", tmp_path / "reports", "--image", f"redis={NOWHERE}")
    )
    assert done.returncode == 4, done.stdout + done.stderr
    [line] = [x for x in done.stdout.splitlines() if x.startswith("SKIPPED")]
    assert f"image {NOWHERE} is not here and cannot be pulled" in line
    assert "harness images build" in line


def test_our_images_of_containers_are_never_looked_for_in_a_registry(engine: Any) -> None:
    """When one was not built, the message names the command that builds it."""
    with pytest.raises(MissingPart, match="is not built: run `harness images build nothing`"):
        engines.provide(engine, f"{engines.OURS}nothing:1")


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("part", ["toxiproxy", "nginx"])
def test_containers_without_the_image_of_a_part_are_skipped(
    part: str, scenario: Path, tmp_path: Path
) -> None:
    """It is asked for before anything starts: exit 4, with the engine's own words."""
    reports = ("--reports", tmp_path / "reports", "--set", "balancer=nginx")
    done = harness("run", scenario, *reports, "--image", f"{part}={NOWHERE}")
    assert done.returncode == 4, done.stdout + done.stderr
    [line] = [x for x in done.stdout.splitlines() if x.startswith("SKIPPED")]
    assert f"image {NOWHERE} is not here and cannot be pulled" in line
    assert not processes_naming(str(tmp_path))


async def test_containers_name_a_port_that_is_taken(engine: Any, tmp_path: Path) -> None:
    """The engine's refusal becomes one line that says who can tell more, and leaves no pod."""
    run, lease = RunFolder.create(tmp_path / "run"), Lease.acquire()
    subnet = lease.subnet
    guardian = await Guardian.start(run, lease)
    host = ContainerHost(guardian, run, engines.BUILT)
    node = host.node(subnet, "redis", 0, tmp_path)
    with socket.create_server(node.address):
        with pytest.raises(UserError, match=r"a port of the run's subnet is taken: .*`ss -ltnp`"):
            await host.prepare([node])
        await host.close()
        await guardian.stop()
    names = [each.name for each in engine.containers.list(all=True)]
    assert f"harness-{subnet}-pod" not in names


def test_built_images_hold_the_installed_server(engine: Any) -> None:
    """The image's server says the version of the machine's; both tags are there."""
    assert f":{server_version()}" in recipes.build()
    assert engine.images.get(f"{engines.BUILT}:{server_version()}")
    said = engine.containers.run(engines.BUILT, ["redis-server", "--version"], remove=True)
    assert f"v={server_version()}".encode() in said


@pytest.mark.parametrize(
    ("part", "words"), [("toxiproxy", ["--version"]), ("nginx", ["nginx", "-v"])]
)
def test_built_images_of_containers_start_alone(
    part: str, words: list[str], images: dict[str, str], engine: Any
) -> None:
    """Every library is in them: the program starts with nothing of this machine mounted."""
    done = harness("images", "build", part)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{images[part]}:latest" in done.stdout
    said = engine.containers.run(images[part], words, remove=True, stderr=True)
    assert part.encode() in said
