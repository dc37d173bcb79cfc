"""Makes images for the container host from this machine's own programs.

No registry and no Dockerfile: the programs of a part and the libraries that they are linked with go
into one archive, which the engine imports as an image.
"""

from __future__ import annotations

import io
import os
import platform
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.deploy import engine
from harness.deploy.balancer import REMEDY, find_nginx, nginx_version
from harness.deploy.host import PROGRAM, server_version
from harness.deploy.spawner import find_program
from harness.errors import MissingPart, UserError
from harness.network.toxiproxy import MISSING, cached_binary, find_toxiproxy

FOLDERS = {"tmp": 0o1777}
# Servers look up whom to run as.
USERS = {
    "etc/passwd": "root:x:0:0:root:/:/bin/false\nwww-data:x:33:33::/:/bin/false\n",
    "etc/group": "root:x:0:\nwww-data:x:33:\n",
}


@dataclass(frozen=True)
class Recipe:
    """How the image of one part is made. A version is tagged when it is a number."""

    programs: Callable[[], dict[str, Path]]  # path in the image → program here
    version: Callable[[], str]
    changes: tuple[str, ...]  # lines of a Dockerfile
    folders: Mapping[str, int] = field(default_factory=lambda: FOLDERS)  # path → mode
    texts: Mapping[str, str] = field(default_factory=dict)  # path → text


def _redis() -> dict[str, Path]:
    names = (PROGRAM, "redis-cli")
    return {f"/usr/bin/{name}": Path(find_program(name, os.environ)) for name in names}


def _toxiproxy() -> dict[str, Path]:
    if (found := find_toxiproxy()) is None:
        raise MissingPart(MISSING.format(cache=cached_binary().parent))
    return {"/toxiproxy": found}  # where the official image has it


def _toxiproxy_version() -> str:
    program = str(_toxiproxy()["/toxiproxy"])
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.rpartition(" ")[2].strip()


def _nginx() -> dict[str, Path]:
    if (found := find_nginx()) is None:
        raise MissingPart(f"nginx is not installed: expected it on the path; {REMEDY}")
    return {"/usr/sbin/nginx": Path(found)}


RECIPES = {
    "redis": Recipe(
        _redis,
        server_version,
        (
            "ENV PATH=/usr/bin",
            "WORKDIR /data",
            "EXPOSE 6379",
            # not an entry point: what a user appends replaces it, as with the official image
            'CMD ["redis-server", "--save", "", "--protected-mode", "no", "--bind", "*"]',
        ),
        {"data": 0o777, **FOLDERS},
    ),
    "toxiproxy": Recipe(
        _toxiproxy,
        _toxiproxy_version,
        ("EXPOSE 8474", 'ENTRYPOINT ["/toxiproxy"]', 'CMD ["-host=0.0.0.0"]'),
    ),
    "nginx": Recipe(
        _nginx,
        lambda: nginx_version(str(_nginx()["/usr/sbin/nginx"])),
        (
            "ENV PATH=/usr/sbin",
            "EXPOSE 80",
            'CMD ["nginx", "-g", "daemon off;"]',
        ),
        {"var/log/nginx": 0o777, "var/lib/nginx": 0o777, **FOLDERS},
        USERS,
    ),
}


def build(part: str = "redis") -> str:
    """Build a part's image and return what was made; raise MissingPart, UserError."""
    recipe, repository = RECIPES[part], engine.OURS + part
    version, data = recipe.version(), archive(recipe)
    tags = ["latest", version] if version[:1].isdigit() else ["latest"]
    changes = [*recipe.changes, f"LABEL org.opencontainers.image.version={version}"]
    client = engine.connect()
    try:
        client.api.import_image_from_data(
            data, repository=repository, tag="latest", changes=changes
        )
        image = client.images.get(repository)
        for tag in tags:
            image.tag(repository, tag=tag)
    except engine.ERRORS as error:
        raise UserError(f"the container engine refuses: {engine.reason(error)}") from error
    finally:
        client.close()
    also = "".join(f", also :{tag}" for tag in tags[1:])
    return f"{repository}:latest{also}, {len(data) / 1e6:.1f} MB, {image.short_id}"


def archive(recipe: Recipe) -> bytes:
    """Return an image's files as a tar archive; raise MissingPart, UserError."""
    if platform.system() != "Linux":
        raise UserError("an image needs programs of Linux; name one with --image redis=redis:7")
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, mode in recipe.folders.items():
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, mode
            tar.addfile(folder)
        for name, text in recipe.texts.items():
            file = tarfile.TarInfo(name)
            file.size = len(text)
            tar.addfile(file, io.BytesIO(text.encode()))
        for name, path in sorted(_files(recipe.programs()).items()):
            tar.add(path.resolve(), arcname=name.lstrip("/"), recursive=False)
    return data.getvalue()


def _files(programs: Mapping[str, Path]) -> dict[str, Path]:
    """Return path in the image → file here, of programs and their libraries."""
    files = dict(programs)
    for path in programs.values():
        files.update({str(library): library for library in _libraries(path)})
    return files


def _libraries(program: Path) -> Iterator[Path]:
    """Yield what a program is linked with, the loader among it; nothing for a static one."""
    done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
    if missing := re.findall(r"(\S+) => not found", done.stdout):
        raise UserError(f"{program} is linked with {', '.join(missing)}, which is not installed")
    for found in re.findall(r"(/\S+) \(0x", done.stdout):
        yield Path(found)
