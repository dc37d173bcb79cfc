"""Makes images from this machine's own programs: of the container host, and for compose files.

No registry: the programs of a part, the files that they read and the libraries that they are
linked with go into one archive, which the engine imports as an image.
"""

from __future__ import annotations

import io
import platform
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

from harness.deploy import engine
from harness.deploy.image_recipes import DEPLOYED, RECIPES, Recipe
from harness.errors import UserError

IMAGE_S = 600.0  # the engine answers an import when the whole archive is unpacked
# Of no use in an image: the tests of a standard library, what only compilers read, and PostgreSQL's
# compiler of queries, which is linked with 100 MB.
LEFT_OUT = re.compile(r"/(__pycache__|test|idlelib|config-3[^/]*|bitcode|pgxs)(/|$)|/llvmjit[^/]*$")


def import_image(part: str) -> str:
    """Import a part's archive and return what was made; raise MissingPart, UserError."""
    recipe, repository = {**RECIPES, **DEPLOYED}[part], engine.OURS + part
    version, data = recipe.version(), archive(recipe)
    tags = ["latest", version] if version[:1].isdigit() else ["latest"]
    changes = [*recipe.changes, f"LABEL org.opencontainers.image.version={version}"]
    client = engine.connect()
    client.api.timeout = IMAGE_S
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
            file.size, file.mode = len(text), 0o755 if text.startswith("#!") else 0o644
            tar.addfile(file, io.BytesIO(text.encode()))
        for name, path in sorted(_files(recipe).items()):
            tar.add(path.resolve(), arcname=name.lstrip("/"), recursive=False)
    return data.getvalue()


def _files(recipe: Recipe) -> dict[str, Path]:
    """Return path in the image → file here, of programs, their data and their libraries."""
    files = dict(recipe.programs())
    linked = list(files.values())
    for tree in recipe.trees():
        for path in _kept(tree):
            files[str(path)] = path
            linked += [path] if ".so" in path.name else []
    for path in linked:
        files.update({str(library): library for library in _libraries(path)})
    return files


def _kept(tree: Path) -> Iterator[Path]:
    """Yield the files below a folder that an image needs, or the file itself."""
    if tree.is_file():
        yield tree
    for path in tree.rglob("*"):
        if path.is_file() and not LEFT_OUT.search(f"/{path.relative_to(tree)}"):
            yield path


def _libraries(program: Path) -> Iterator[Path]:
    """Yield what a program is linked with, the loader among it; nothing for a static one."""
    done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
    if missing := re.findall(r"(\S+) => not found", done.stdout):
        raise UserError(f"{program} is linked with {', '.join(missing)}, which is not installed")
    for found in re.findall(r"(/\S+) \(0x", done.stdout):
        yield Path(found)
