"""`--with NAME==V[,V…]`: versions of packages as an axis; one `=` is accepted."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

from harness.errors import UserError

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?(\[[A-Za-z0-9,_-]+\])?")
GRAMMAR = "expected NAME==VERSION[,VERSION…], such as redis==8.0.0 or redis=7.4.0,8.0.0"


@dataclass(frozen=True, order=True)
class Pin:
    """One package at one version."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


@dataclass(frozen=True)
class Axis:
    """One package at one or more versions, in the order given."""

    name: str
    versions: tuple[str, ...]

    @property
    def pins(self) -> list[Pin]:
        """Return a pin for each version."""
        return [Pin(self.name, version) for version in self.versions]


def normal(name: str) -> str:
    """Return a package's name as the index has it: `Python_SocketIO` is `python-socketio`."""
    return re.sub(r"[-_.]+", "-", name).lower()


def parse_axis(text: str, option: str = "--with") -> Axis:
    """Return what one `--with` says; raise UserError that shows the grammar."""
    name, equals, rest = text.partition("=")
    versions = tuple(part.strip() for part in rest.removeprefix("=").split(","))
    if not equals or not _NAME.fullmatch(name.strip()):
        raise UserError(f"{option} {text}: {GRAMMAR}")
    return Axis(normal(name.strip()), tuple(_valid(v, text, option) for v in versions))


def _valid(version: str, text: str, option: str) -> str:
    try:
        Version(version)
    except InvalidVersion:
        raise UserError(f"{option} {text}: {version!r} is no version; {GRAMMAR}") from None
    return version


def parse_axes(texts: Iterable[str], option: str = "--with") -> tuple[Axis, ...]:
    """Return every `--with`; raise UserError when a package is named twice."""
    axes = tuple(parse_axis(text, option) for text in texts)
    names = [axis.name for axis in axes]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{option} {name}: named twice; give its versions in one, with commas")
    return axes


def single(texts: Iterable[str], option: str = "--with") -> tuple[Pin, ...]:
    """Return one pin per `--with`, for a command that runs one combination; raise UserError."""
    axes = parse_axes(texts, option)
    for axis in axes:
        if len(axis.versions) > 1:
            raise UserError(
                f"{option} {axis.name}: expected one version, got {', '.join(axis.versions)}; "
                "`harness matrix` runs several"
            )
    return tuple(axis.pins[0] for axis in axes)


def combinations(axes: Iterable[Axis]) -> Iterator[tuple[Pin, ...]]:
    """Return every combination of versions, the last axis turning fastest."""
    return itertools.product(*(axis.pins for axis in axes))
