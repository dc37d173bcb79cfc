"""Which parts a scenario needs that not every machine has."""

from __future__ import annotations

from harness.deploy.balancer import NO_NGINX, find_nginx
from harness.deploy.host import speaks_tls
from harness.deploy.postgres import NO_POSTGRES, find_program
from harness.network import firewall
from harness.network.toxiproxy import find_toxiproxy
from harness.scenario import Scenario

NO_TOXIPROXY = (
    "it needs network faults, and toxiproxy-server was found neither on the path nor in the cache; "
    "run `make setup`, or put toxiproxy-server 2.12.0 on the path"
)

NO_TLS = (
    "it needs TLS, and redis-server was built without it; install the distribution's "
    "(`make setup`), or run with `--host containers`"
)
IN_CONTAINERS = "a partition between nodes needs `host: processes`: in a pod all have one address"


def missing_part(scenario: Scenario) -> str:
    """Return why this machine cannot run the scenario, which is then skipped; empty when it can."""
    images = scenario.used_images  # what comes from one needs no program here
    if scenario.needs_links and "toxiproxy" not in images and find_toxiproxy() is None:
        return NO_TOXIPROXY
    if scenario.balancer == "nginx" and "nginx" not in images and find_nginx() is None:
        return NO_NGINX
    if scenario.database == "postgresql" and find_program("postgres") is None:
        return NO_POSTGRES
    wants_tls = scenario.redis.tls != "none"
    if wants_tls and scenario.host == "processes" and not speaks_tls():
        return NO_TLS
    return _no_partition(scenario) if scenario.needs_partitions else ""


def _no_partition(scenario: Scenario) -> str:
    if scenario.host != "processes":
        return IN_CONTAINERS
    lacking = firewall.missing()
    return f"it cuts nodes off from each other, and {lacking}" if lacking else ""
