"""deploy/compose and what it mounts: accepted, and of one mind with the runtime and the pages."""

from __future__ import annotations

import io
import json
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from click import Choice, Group

from harness.cli import cli
from harness.deploy.image_archives import archive
from harness.deploy.image_builds import BUILDS
from harness.deploy.image_recipes import DEPLOYED, RECIPES
from harness.deploy.images import SETS
from harness.errors import MissingPart
from runtime.services import Services
from runtime.settings import Settings, load_settings
from tests.integration.compose_parts import COMPOSE, command, variables

ROOT = COMPOSE.parents[1]
DEPLOY = ROOT / "deploy"
TOPOLOGIES = ("standalone", "sentinel", "cluster")
PROJECTS = [*((each,) for each in TOPOLOGIES), ("standalone", "observability")]
VARIABLE = re.compile(r"\$\{(\w+)[:?-]")
ENVIRON = {"REDIS_URL": "redis://127.0.0.1:1/0", "WEBUI_SECRET_KEY": "s" * 32}
# What redis_exporter makes of INFO and CONFIG; looked at in version 1.45.
OF_REDIS = {
    "redis_config_maxclients",
    "redis_connected_clients",
    "redis_connected_slaves",
    "redis_memory_max_bytes",
    "redis_memory_used_bytes",
    "redis_up",
}


def _files() -> dict[str, Any]:
    return {path.stem: yaml.safe_load(path.read_text()) for path in COMPOSE.glob("*.yml")}


def _config(*names: str) -> subprocess.CompletedProcess[str]:
    files = [word for name in names for word in ("-f", str(COMPOSE / f"{name}.yml"))]
    environment = variables(METRICS_TOKEN="t" * 16, GRAFANA_PASSWORD="g")
    argv = [*command(), *files, "config"]
    return subprocess.run(
        argv, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("names", PROJECTS, ids="+".join)
def test_compose_accepts_the_file(names: tuple[str, ...], request: pytest.FixtureRequest) -> None:
    """Without an error or a warning; every instance has what the overlay adds."""
    if not command():
        pytest.skip(f"{request.node.name}: neither docker-compose nor its plugin is installed")
    done = _config(*names)
    assert (done.returncode, done.stderr) == (0, "")
    services = yaml.safe_load(done.stdout)["services"]
    for number in (1, 2, 3):
        environment = services[f"runtime-{number}"]["environment"]
        assert environment["INSTANCE_ID"] == f"runtime-{number}"
        assert environment["REDIS_URL"]
        assert ("ENABLE_OTEL" in environment) == (len(names) == 2)
        assert environment.keys() - {name.upper() for name in Settings.model_fields} == set()


def test_a_missing_secret_is_named(request: pytest.FixtureRequest) -> None:
    """The message says which, and where an example is."""
    if not command():
        pytest.skip(f"{request.node.name}: neither docker-compose nor its plugin is installed")
    environment = variables()
    del environment["REDIS_PASSWORD"]
    argv = [*command(), "-f", str(COMPOSE / "standalone.yml"), "config"]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "is not set, see .env.example" in done.stderr


def test_the_example_has_every_secret() -> None:
    """What a file cannot do without stands in .env.example; its other names are used somewhere."""
    texts = "\n".join(path.read_text() for path in COMPOSE.glob("*.yml"))
    required = set(re.findall(r"\$\{(\w+):\?", texts))
    example = (COMPOSE / ".env.example").read_text()
    named = set(re.findall(r"^(\w+)=", example, re.MULTILINE))
    assert required <= named <= set(VARIABLE.findall(texts))


def test_nginx_and_prometheus_know_all_instances() -> None:
    """One server per instance of each file, at the port that the image serves."""
    instances = {f"runtime-{number}:8080" for number in (1, 2, 3)}
    nginx = (COMPOSE / "nginx.conf").read_text()
    assert set(re.findall(r"server (\S+:\d+)", nginx)) == instances
    prometheus = yaml.safe_load((DEPLOY / "observability/prometheus.yml").read_text())
    runtime, redis = prometheus["scrape_configs"]
    assert set(runtime["static_configs"][0]["targets"]) == instances
    files = _files()
    for name in TOPOLOGIES:
        assert instances == {f"{s}:8080" for s in files[name]["services"] if "runtime" in s}
    (alias,) = files["app"]["services"]["redis"]["networks"]["default"]["aliases"]
    assert redis["dns_sd_configs"][0]["names"] == [alias]
    assert '"--port", "8080"' in (DEPLOY / "Dockerfile").read_text()


def _queries() -> list[str]:
    board = json.loads((DEPLOY / "observability/grafana/dashboards/runtime.json").read_text())
    shown = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return shown + [each["expr"] for each in board["annotations"]["list"]]


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    """Samples of a worker with Redis as it exposes them, and of redis_exporter."""
    exposed = set()
    for family in Services(load_settings(ENVIRON)).metrics.registry.collect():
        endings = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}
        exposed |= {family.name + ending for ending in endings.get(family.type, ("",))}
    asked = {name for query in _queries() for name in re.findall(r"\b(?:runtime|redis)_\w+", query)}
    assert {name for name in asked if name.startswith("runtime_")} <= exposed
    assert {name for name in asked if name.startswith("redis_")} <= OF_REDIS
    shown = " ".join(asked)
    for wanted in ("sockets", "loop_lag", "listener_age", "events_gaps", "redis_connections"):
        assert wanted in shown


def test_the_dashboard_has_the_datasource_that_is_provisioned() -> None:
    """By its uid; a panel's queries have different names."""
    folder = DEPLOY / "observability/grafana"
    sources = yaml.safe_load((folder / "provisioning/datasources/prometheus.yml").read_text())
    uids = {source["uid"] for source in sources["datasources"]}
    board = json.loads((folder / "dashboards/runtime.json").read_text())
    for panel in board["panels"]:
        assert {target["datasource"]["uid"] for target in panel["targets"]} <= uids
        names = [target["refId"] for target in panel["targets"]]
        assert len(names) == len(set(names))
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_the_collector_uses_what_it_declares() -> None:
    """Each pipeline names parts that are there, and every part is used."""
    parts = yaml.safe_load((DEPLOY / "observability/collector.yaml").read_text())
    pipelines = parts["service"]["pipelines"].values()
    for kind in ("receivers", "processors", "exporters"):
        used = {name for pipeline in pipelines for name in pipeline[kind]}
        assert used == parts[kind].keys()


@pytest.mark.parametrize("name", ["redis.conf", "sentinel.conf"])
def test_every_server_setting_is_explained(name: str) -> None:
    """The page has a row for each line, with its value."""
    page = (ROOT / "docs/deploy.md").read_text()
    for line in (DEPLOY / "redis" / name).read_text().splitlines():
        if line and not line.startswith("#"):
            assert f"`{line.replace('mymaster ', '').removeprefix('sentinel ')}`" in page, line


def test_the_image_has_pins_of_the_lock() -> None:
    """Every package of the runtime's image is the version that is tested."""
    pin = re.compile(r"^([a-z0-9-]+)(?:\[\w+\])?==([^ ]+)", re.MULTILINE)
    image = dict(pin.findall((ROOT / "requirements/runtime.txt").read_text()))
    tested = dict(pin.findall((ROOT / "requirements/lock.txt").read_text()))
    assert len(image) > 20
    assert {name: tested.get(name) for name in image} == image


def test_every_image_can_be_asked_for() -> None:
    """The command's choices are the parts and the sets of parts."""
    group = cli.commands["images"]
    assert isinstance(group, Group)
    (argument,) = group.commands["build"].params
    assert isinstance(argument.type, Choice)
    assert set(argument.type.choices) == {*RECIPES, *DEPLOYED, *BUILDS, *SETS}
    assert {part for parts in SETS.values() for part in parts} <= set(argument.type.choices)


IN_IMAGES = {
    "postgres": ("/bin/postgres", "/bin/initdb", "/lib/plpgsql.so", "usr/local/bin/start"),
    "python": ("usr/bin/python3", "/ensurepip/__init__.py", "/libstdc++.so.6", "/libpthread.so.0"),
}


@pytest.mark.parametrize("part", IN_IMAGES)
def test_local_images_hold_what_starts(part: str, request: pytest.FixtureRequest) -> None:
    """Programs, what they read, a shell and users; not what only compilers need."""
    try:
        data = archive(DEPLOYED[part])
    except MissingPart as error:
        pytest.skip(f"{request.node.name}: {error}")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        modes = {entry.name: entry.mode for entry in tar}
    for wanted in (*IN_IMAGES[part], "bin/sh", "etc/passwd", "etc/nsswitch.conf"):
        assert any(name.endswith(wanted) for name in modes), wanted
    assert not [name for name in modes if "llvmjit" in name or "__pycache__" in name]
    assert modes.get("usr/local/bin/start", 0o755) == 0o755


def test_scripts_of_redis_are_shell() -> None:
    """They parse: an error in one would show at the first start of a node."""
    for script in ("start-redis", "start-sentinel", "make-cluster"):
        path: Path = DEPLOY / "redis" / script
        done = subprocess.run(["sh", "-n", str(path)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
