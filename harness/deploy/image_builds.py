"""Builds the Dockerfiles of deploy/ without a registry.

The base is made from Debian's Python, and the wheels are those that this machine's pip gets.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker.errors import BuildError, ImageNotFound

from harness.deploy import engine
from harness.deploy.image_archives import import_image
from harness.deploy.image_recipes import python_version
from harness.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
BASE = f"{engine.OURS}python"
BUILD_S = 600.0
SOURCES = "redis-failover-harness.sources"  # what an image was built from
STAGE = "redis-failover-harness.stage=packages"  # of the stage that nobody needs afterwards
ARGUMENTS = {"BASE": BASE, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/build"}


@dataclass(frozen=True)
class Build:
    """A Dockerfile and what it copies; paths from the root of the repository."""

    dockerfile: str
    pins: str
    sources: tuple[str, ...]

    def files(self) -> Iterator[Path]:
        """Yield every file but the wheels, always in the same order."""
        for name in (self.dockerfile, self.pins, *self.sources):
            below = sorted((ROOT / name).rglob("*")) if (ROOT / name).is_dir() else [ROOT / name]
            yield from (p for p in below if p.is_file() and "__pycache__" not in p.parts)


BUILDS = {
    "runtime": Build("deploy/Dockerfile", "requirements/runtime.txt", ("runtime",)),
    "harness": Build(
        "deploy/Dockerfile.harness",
        "requirements/lock.txt",
        ("pyproject.toml", "README.md", "LICENSE", "harness", "runtime", "scenarios"),
    ),
}


def build_from_sources(part: str) -> str:
    """Build an image and its base, unless it is the one already, and return what was made.

    Raises MissingPart, UserError.
    """
    wanted = BUILDS[part]
    if not (ROOT / wanted.dockerfile).is_file():
        raise UserError(f"{wanted.dockerfile} is not there: expected a checkout of the repository")
    name, sources = f"{engine.OURS}{part}", _digest(wanted)
    if (image := _present(name)) is not None and image.labels.get(SOURCES) == sources:
        return f"{_told(name, image)}, nothing has changed"
    made = import_image("python")
    with tempfile.TemporaryDirectory(prefix="harness-wheels-") as folder:
        _download(wanted.pins, Path(folder))
        image = _build(name, wanted, _context(wanted, Path(folder)), sources)
    return f"{made}\n{_told(name, image)}"


def _told(name: str, image: Any) -> str:
    return f"{name}:latest, {image.attrs['Size'] / 1e6:.1f} MB, {image.short_id}"


def _digest(wanted: Build) -> str:
    """Return a name for everything that an image is made from."""
    found = hashlib.blake2b(python_version().encode(), digest_size=16)
    for path in wanted.files():
        found.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return found.hexdigest()


def _present(name: str) -> Any:
    """Return the image that is there; None when it is not built yet."""
    client = engine.connect()
    try:
        return client.images.get(name)
    except ImageNotFound:
        return None
    finally:
        client.close()


def _download(pins: str, folder: Path) -> None:
    """Let pip put the wheels that the base needs into a folder."""
    version = ".".join(python_version().split(".")[:2])
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    words += ["--require-hashes", "--only-binary", ":all:", "--python-version", version]
    words += ["--dest", str(folder), "-r", str(ROOT / pins)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise UserError(f"pip cannot download what {pins} names: {said[0]}")


def _context(wanted: Build, wheels: Path) -> bytes:
    """Return what the Dockerfile copies, as a tar archive."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for path in wanted.files():
            tar.add(path, arcname=str(path.relative_to(ROOT)))
        for wheel in sorted(wheels.iterdir()):
            tar.add(wheel, arcname=f"wheels/{wheel.name}")
    return data.getvalue()


def _build(name: str, wanted: Build, context: bytes, sources: str) -> Any:
    """Return the image."""
    client = engine.connect()
    client.api.timeout = BUILD_S
    try:
        image, _ = client.images.build(
            fileobj=io.BytesIO(context),
            custom_context=True,
            dockerfile=wanted.dockerfile,
            buildargs=ARGUMENTS,
            labels={SOURCES: sources},
            tag=name,
            rm=True,
            forcerm=True,
        )
        client.images.prune({"dangling": True, "label": STAGE})
        return image
    except BuildError as error:
        lines = [str(line.get("stream", line.get("error", ""))).strip() for line in error.build_log]
        end = "\n".join(line for line in lines[-20:] if line)
        raise UserError(f"{wanted.dockerfile} cannot be built: {error}\n{end}") from error
    except engine.ERRORS as error:
        raise UserError(f"the container engine refuses: {engine.reason(error)}") from error
    finally:
        client.close()
