"""Builds deploy/Dockerfile without a registry.

The base is made from Debian's Python, and the wheels are those that this machine's pip gets.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from docker.errors import BuildError, ImageNotFound

from harness.deploy import engine
from harness.deploy.image_recipes import python_version
from harness.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE, PINS = "deploy/Dockerfile", "requirements/runtime.txt"
NAME, BASE = f"{engine.OURS}runtime", f"{engine.OURS}python"
BUILD_S = 600.0
SOURCES = "redis-failover-harness.sources"  # what an image was built from
STAGE = "redis-failover-harness.stage=packages"  # of the stage that nobody needs afterwards
ARGUMENTS = {"BASE": BASE, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/build"}


def build_runtime() -> str:
    """Build the image and its base, unless it is the one already, and return what was made.

    Raises MissingPart, UserError.
    """
    from harness.deploy.images import build

    if not (ROOT / DOCKERFILE).is_file():
        raise UserError(f"{DOCKERFILE} is not there: expected a checkout of the repository")
    sources = _digest()
    if (image := _present()) is not None and image.labels.get(SOURCES) == sources:
        return f"{_told(image)}, nothing has changed"
    made = build("python")
    with tempfile.TemporaryDirectory(prefix="harness-wheels-") as folder:
        _download(Path(folder))
        image = _build(_context(Path(folder)), sources)
    return f"{made}\n{_told(image)}"


def _told(image: Any) -> str:
    return f"{NAME}:latest, {image.attrs['Size'] / 1e6:.1f} MB, {image.short_id}"


def _digest() -> str:
    """Return a name for everything that the image is made from."""
    found = hashlib.blake2b(python_version().encode(), digest_size=16)
    files = [ROOT / DOCKERFILE, ROOT / PINS, *sorted((ROOT / "runtime").rglob("*"))]
    for path in files:
        if path.is_file() and "__pycache__" not in path.parts:
            found.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return found.hexdigest()


def _present() -> Any:
    """Return the image that is there; None when it is not built yet."""
    client = engine.connect()
    try:
        return client.images.get(NAME)
    except ImageNotFound:
        return None
    finally:
        client.close()


def _download(folder: Path) -> None:
    """Let pip put the wheels that the base needs into a folder."""
    version = ".".join(python_version().split(".")[:2])
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    words += ["--require-hashes", "--only-binary", ":all:", "--python-version", version]
    words += ["--dest", str(folder), "-r", str(ROOT / PINS)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise UserError(f"pip cannot download what {PINS} names: {said[0]}")


def _context(wheels: Path) -> bytes:
    """Return what the Dockerfile copies, as a tar archive."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name in (DOCKERFILE, PINS):
            tar.add(ROOT / name, arcname=name)
        tar.add(ROOT / "runtime", arcname="runtime", filter=_source)
        for wheel in sorted(wheels.iterdir()):
            tar.add(wheel, arcname=f"wheels/{wheel.name}")
    return data.getvalue()


def _source(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in entry.name else entry


def _build(context: bytes, sources: str) -> Any:
    """Return the image."""
    client = engine.connect()
    client.api.timeout = BUILD_S
    try:
        image, _ = client.images.build(
            fileobj=io.BytesIO(context),
            custom_context=True,
            dockerfile=DOCKERFILE,
            buildargs=ARGUMENTS,
            labels={SOURCES: sources},
            tag=NAME,
            rm=True,
            forcerm=True,
        )
        client.images.prune({"dangling": True, "label": STAGE})
        return image
    except BuildError as error:
        lines = [str(line.get("stream", line.get("error", ""))).strip() for line in error.build_log]
        end = "\n".join(line for line in lines[-20:] if line)
        raise UserError(f"{DOCKERFILE} cannot be built: {error}\n{end}") from error
    except engine.ERRORS as error:
        raise UserError(f"the container engine refuses: {engine.reason(error)}") from error
    finally:
        client.close()
