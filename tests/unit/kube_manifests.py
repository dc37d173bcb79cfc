"""What kustomize builds from deploy/kubernetes, as dictionaries, and where things stand in them."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
BUILDS = ("overlays/sentinel", "overlays/cluster", "load")
WORKLOADS = ("Deployment", "StatefulSet", "Job")


def kustomize() -> list[str]:
    """Return the words that build a kustomization; empty without kustomize and kubectl."""
    if found := shutil.which("kustomize"):
        return [found, "build"]
    return ["kubectl", "kustomize"] if shutil.which("kubectl") else []


@functools.cache
def built(name: str) -> tuple[dict[str, Any], ...]:
    """Return the objects of a build; the test is skipped without kustomize."""
    if not kustomize():
        pytest.skip(f"{name}: neither kustomize nor kubectl is installed")
    argv = [*kustomize(), str(FOLDER / name)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def objects(name: str, *kinds: str) -> list[dict[str, Any]]:
    """Return a build's objects of some kinds."""
    return [found for found in built(name) if found["kind"] in kinds]


def pods(name: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yield name, pod template and the container of each workload."""
    for found in objects(name, *WORKLOADS):
        template = found["spec"]["template"]
        for container in template["spec"]["containers"]:
            yield found["metadata"]["name"], template, container


def matches(selector: dict[str, str], labels: dict[str, str]) -> bool:
    """Tell whether a selector picks something with these labels."""
    return bool(selector) and selector.items() <= labels.items()
