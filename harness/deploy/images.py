"""Makes the image that the container host uses by default, from this machine's redis-server.

No registry and no Dockerfile: the server, its client and the libraries that they are linked with go
into one archive, which the engine imports as an image.
"""

from __future__ import annotations

import io
import os
import platform
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

from harness.deploy import engine
from harness.deploy.host import PROGRAM, server_version
from harness.deploy.spawner import find_program
from harness.errors import UserError

PROGRAMS = (PROGRAM, "redis-cli")
FOLDERS = {"data": 0o777, "tmp": 0o1777}
CHANGES = (
    "ENV PATH=/usr/bin",
    "WORKDIR /data",
    "EXPOSE 6379",
    # not an entry point: what a user appends replaces it, as with the official image
    'CMD ["redis-server", "--save", "", "--protected-mode", "no", "--bind", "*"]',
)


def build() -> str:
    """Build the image and return what was made; raise MissingPart, UserError."""
    client = engine.connect()
    try:
        version = server_version()
        data = archive()
        labels = f"LABEL org.opencontainers.image.version={version}"
        client.api.import_image_from_data(
            data, repository=engine.BUILT, tag="latest", changes=[*CHANGES, labels]
        )
        image = client.images.get(engine.BUILT)
        image.tag(engine.BUILT, tag=version)
    except engine.ERRORS as error:
        raise UserError(f"the container engine refuses: {engine.reason(error)}") from error
    finally:
        client.close()
    size = len(data) / 1e6
    return f"{engine.BUILT}:latest, also :{version}, {size:.1f} MB, {image.short_id}"


def archive() -> bytes:
    """Return the image's files as a tar archive; raise MissingPart, UserError."""
    if platform.system() != "Linux":
        raise UserError("an image needs programs of Linux; name one with --image redis=redis:7")
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, mode in FOLDERS.items():
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, mode
            tar.addfile(folder)
        for name, path in sorted(_files().items()):
            tar.add(path.resolve(), arcname=name.lstrip("/"), recursive=False)
    return data.getvalue()


def _files() -> dict[str, Path]:
    """Return path in the image → file here."""
    files = {}
    for program in PROGRAMS:
        path = Path(find_program(program, os.environ))
        files[f"/usr/bin/{program}"] = path
        files.update({str(library): library for library in _libraries(path)})
    return files


def _libraries(program: Path) -> Iterator[Path]:
    """Yield what a program is linked with, the loader among it; nothing for a static one."""
    done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
    if missing := re.findall(r"(\S+) => not found", done.stdout):
        raise UserError(f"{program} is linked with {', '.join(missing)}, which is not installed")
    for found in re.findall(r"(/\S+) \(0x", done.stdout):
        yield Path(found)
