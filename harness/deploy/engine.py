"""The container engine of this machine: where it is, and what is wrong when it does not answer."""

from __future__ import annotations

import os
import socket
from typing import Any

import docker
from docker.context import ContextAPI
from docker.errors import APIError, DockerException, ImageNotFound
from requests import RequestException

from harness.errors import MissingPart

DEFAULT = "unix:///var/run/docker.sock"
UNIX = "unix://"
ANSWER_S = 30.0
OURS = "redis-failover-harness/"  # what `harness images build` makes; in no registry
BUILT = f"{OURS}redis"
REMEDY = "Run `harness images build` and leave --image away, or load it with `docker load`."
ERRORS = (DockerException, RequestException, OSError)


def address() -> str:
    """Return the engine's address, always of a Unix socket.

    It is DOCKER_HOST, else that of docker's current context, else the usual one. Raises
    MissingPart for an engine elsewhere: its containers could not share addresses and files.
    """
    found = os.environ.get("DOCKER_HOST") or _of_context() or DEFAULT
    if not found.startswith(UNIX):
        raise MissingPart(
            f"the container engine is at {found}; expected one of this machine, at unix://PATH. "
            "Set DOCKER_HOST, or `docker context use default`."
        )
    return found


def socket_path() -> str:
    """Return the path of the engine's socket; raise MissingPart as `address` does."""
    return address().removeprefix(UNIX)


def _of_context() -> str | None:
    try:
        context = ContextAPI.get_current_context()
    except Exception:  # a broken file of docker's own; its default is as good
        return None
    return context.Host if context is not None else None


def connect() -> Any:
    """Return a docker client that was answered once; raise MissingPart without an engine."""
    where = address()
    try:
        with socket.socket(socket.AF_UNIX) as probe:  # docker's client leaks one it cannot connect
            probe.connect(where.removeprefix(UNIX))
        client = docker.DockerClient(base_url=where, timeout=ANSWER_S)
        client.ping()
    except ERRORS as error:
        raise MissingPart(
            f"no container engine answers at {where}: {reason(error)}. Start one (`make "
            "test-containers` installs and starts it where it may), or run without --host "
            "containers."
        ) from error
    return client


def provide(client: Any, image: str, remedy: str = REMEDY) -> str:
    """Return the id of an image, pulled when it is not here; raise MissingPart with a remedy."""
    try:
        return str(client.images.get(image).id)
    except ImageNotFound:
        if image.startswith(OURS):
            part = image.removeprefix(OURS).partition(":")[0]
            raise MissingPart(
                f"image {image} is not built: run `harness images build {part}`, or name another "
                f"one, as in --image {part}={part}:TAG"
            ) from None
    try:
        return str(client.images.pull(*_split(image)).id)
    except ERRORS as error:
        raise MissingPart(
            f"image {image} is not here and cannot be pulled: {reason(error)}. {remedy}"
        ) from error


def _split(image: str) -> tuple[str, str]:
    """Return repository and tag; without a tag docker would pull all of them."""
    name, colon, tag = image.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (image, "latest")


def reason(error: BaseException) -> str:
    """Return the engine's own words on one line."""
    words = error.explanation if isinstance(error, APIError) else str(error)
    if isinstance(error, OSError) and error.strerror:
        words = error.strerror
    return " ".join(str(words or error).split())
