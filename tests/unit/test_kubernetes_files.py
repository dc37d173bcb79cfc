"""deploy/kubernetes: every object fits Kubernetes' own schema, and what it names is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from harness.cli import cli
from runtime.cli import KEEP_ALIVE_S
from runtime.settings import Settings
from tests.unit.kube_manifests import BUILDS, built, matches, objects, pods

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ("1.29.0", "1.34.0")
REPLACED = re.compile(r"\$\((\w+)\)")
OWN = {"POD_NAME", "POD_IP", "REDIS_PASSWORD"}  # only pieces of others
ROUTES = {"/health", "/ready"}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("build", BUILDS)
def test_objects_fit_the_schema_of_kubernetes(build: str, version: str) -> None:
    """Strictly: a key that Kubernetes does not know is an error."""
    for found in built(build):
        kubernetes_validate.validate(found, version, strict=True)


def test_a_wrong_key_is_noticed() -> None:
    """The schemas are there, and strict."""
    found = {**objects(BUILDS[0], "Deployment")[0]}
    found["spec"] = {**found["spec"], "replica": 3}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(found, VERSIONS[0], strict=True)


@pytest.mark.parametrize("build", BUILDS)
def test_selectors_pick_pods_of_the_same_build(build: str) -> None:
    """Services, budgets and workloads each pick pods; the autoscaler names a deployment."""
    labels = [template["metadata"]["labels"] for _, template, _ in pods(build)]
    for found in objects(build, "Service"):
        assert any(matches(found["spec"]["selector"], each) for each in labels), found
    for found in objects(build, "PodDisruptionBudget", "Deployment", "StatefulSet"):
        wanted = found["spec"]["selector"]["matchLabels"]
        assert any(matches(wanted, each) for each in labels), found
    names = {found["metadata"]["name"] for found in objects(build, "Deployment")}
    for found in objects(build, "HorizontalPodAutoscaler"):
        assert found["spec"]["scaleTargetRef"]["name"] in names


@pytest.mark.parametrize("build", BUILDS)
def test_mounts_and_settings_name_what_the_build_makes(build: str) -> None:
    """ConfigMaps exist under the names with their hashes; every mount has its volume."""
    maps = {found["metadata"]["name"] for found in objects(build, "ConfigMap")}
    for name, template, container in pods(build):
        volumes = {volume["name"]: volume for volume in template["spec"].get("volumes", ())}
        used = {volume["configMap"]["name"] for volume in volumes.values() if "configMap" in volume}
        used |= {source["configMapRef"]["name"] for source in container.get("envFrom", ())}
        assert used <= maps, name
        claims = {found["metadata"]["name"] for found in objects(build, "PersistentVolumeClaim")}
        for volume in volumes.values():
            assert volume.get("persistentVolumeClaim", {}).get("claimName") in {None, *claims}


@pytest.mark.parametrize("build", BUILDS)
def test_variables_are_replaced_only_after_they_are_set(build: str) -> None:
    """Kubernetes leaves `$(NAME)` as it stands unless NAME comes earlier in the list."""
    for name, _, container in pods(build):
        known: set[str] = set()
        for entry in container.get("env", ()):
            used = set(REPLACED.findall(str(entry.get("value", ""))))
            assert used <= known, (name, entry)
            known.add(entry["name"])
        for argument in container.get("args", ()):
            assert set(REPLACED.findall(argument)) <= known, (name, argument)


@pytest.mark.parametrize("build", BUILDS[:2])
def test_the_runtime_gets_variables_that_it_has(build: str) -> None:
    """Each is one of its settings, and what it cannot do without is among them."""
    (settings,) = [
        found["data"]
        for found in objects(build, "ConfigMap")
        if found["metadata"]["name"].startswith("runtime-settings")
    ]
    container = _runtime(build)["spec"]["containers"][0]
    names = {entry["name"] for entry in container["env"]} | settings.keys()
    known = {name.upper() for name in Settings.model_fields}
    assert names - known - OWN == set()
    assert {"WEBUI_SECRET_KEY", "DATABASE_URL", "REDIS_URL", "INSTANCE_ID"} <= names


def _runtime(build: str) -> dict[str, Any]:
    return next(template for name, template, _ in pods(build) if name == "runtime")


def test_the_runtime_is_probed_and_given_time_to_drain() -> None:
    """Routes of the runtime; the grace period covers the pause before SIGTERM and the drain."""
    template = _runtime(BUILDS[0])["spec"]
    (container,) = template["containers"]
    probes = {kind: container[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness")}
    assert {probe["httpGet"]["path"] for probe in probes.values()} == ROUTES
    assert probes["readiness"]["httpGet"]["path"] == "/ready"
    pause = int(re.findall(r"sleep\((\d+)\)", str(container["lifecycle"]["preStop"]))[0])
    drain = int(
        next(m["data"] for m in objects(BUILDS[0], "ConfigMap") if "DRAIN_TIMEOUT" in m["data"])[
            "DRAIN_TIMEOUT"
        ]
    )
    assert template["terminationGracePeriodSeconds"] > pause + drain
    assert KEEP_ALIVE_S > 60, "longer than an ingress keeps idle connections"


@pytest.mark.parametrize("build", BUILDS)
def test_nothing_runs_as_root(build: str) -> None:
    """No pod is root, may become it, or holds a token of the cluster."""
    for name, template, container in pods(build):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"], name
        assert spec["automountServiceAccountToken"] is False, name
        assert container["securityContext"]["allowPrivilegeEscalation"] is False, name
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name


def test_the_page_names_every_secret() -> None:
    """docs/deploy.md says which secrets have to be made, with all their keys."""
    page = (ROOT / "docs/deploy.md").read_text()
    for build in BUILDS:
        for _, _, container in pods(build):
            for entry in container.get("env", ()):
                reference = entry.get("valueFrom", {}).get("secretKeyRef")
                if reference:
                    assert reference["name"] in page
                    assert f"--from-literal={reference['key']}=" in page, reference


def test_jobs_use_flags_that_the_harness_has() -> None:
    """Their arguments are parsed by the command line itself."""
    for _, _, container in pods("load"):
        name, *arguments = container["args"]
        command = cli.commands[name]
        filled = [REPLACED.sub("10.0.0.5", each) for each in arguments]
        context = command.make_context(name, filled, resilient_parsing=False)
        assert context.params
    jobs = {found["metadata"]["name"]: found["spec"] for found in objects("load", "Job")}
    expected = f"--expect-workers={jobs['harness-load']['parallelism']}"
    master = jobs["harness-master"]["template"]["spec"]["containers"][0]
    assert expected in master["args"]
