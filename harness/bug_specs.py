"""What a regression scenario says about its bug: where it shows, and where it does not. Data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ConfigDict, Field, field_validator, model_validator

from harness.environments.pins import Pin, single
from harness.errors import UserError
from harness.fault_specs import Model
from harness.vocabulary import check_guarantee

SOURCE = r"^([\w.-]+/[\w.-]+#\d+|https://\S+)$"


class _Aliased(Model):
    """Keys that are words of Python have another name inside; plans are saved with the keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)


class Side(_Aliased):
    """One side of a bug: a target, its versions and settings."""

    target: str
    packages: dict[str, str] = Field({}, alias="with")
    environment: dict[str, str | None] = Field({})
    changes: dict[str, Any] = Field({}, alias="set")
    note: str = ""

    @field_validator("target")
    @classmethod
    def _target_exists(cls, name: str) -> str:
        from harness.targets import get_target  # the targets know scenarios

        try:
            get_target(name)
        except UserError as error:
            raise ValueError(str(error)) from None
        return name

    @field_validator("packages")
    @classmethod
    def _are_versions(cls, packages: dict[str, str]) -> dict[str, str]:
        try:
            pins = single([f"{name}=={version}" for name, version in packages.items()], "with")
        except UserError as error:
            raise ValueError(str(error)) from None
        return {pin.name: pin.version for pin in pins}

    @property
    def pins(self) -> tuple[Pin, ...]:
        """Return the versions that the workers run with."""
        return tuple(Pin(name, version) for name, version in self.packages.items())

    @property
    def overrides(self) -> dict[str, Any]:
        """Return dotted scenario keys and their values, variables among them."""
        variables = {f"environment.{name}": value for name, value in self.environment.items()}
        return {**variables, **self.changes}

    @property
    def label(self) -> str:
        """Return the side in words: `stock, redis 8.0.0`."""
        words = [self.target, *(f"{name} {version}" for name, version in self.packages.items())]
        variables = (f"{n}={'' if v is None else v}" for n, v in self.environment.items())
        return ", ".join([*words, *variables, *(f"{k}={v}" for k, v in self.changes.items())])

    def matches(self, scenario: Mapping[str, Any], pins: tuple[Pin, ...]) -> bool:
        """Tell whether a dumped scenario with these versions is this side."""
        return (
            scenario["target"] == self.target
            and sorted(pins) == sorted(self.pins)
            and all(_value_at(scenario, key) == value for key, value in self.overrides.items())
        )


def _value_at(data: Any, key: str) -> Any:
    """Return the value of a dotted key; None where there is none."""
    for name in key.split("."):
        try:
            data = data[int(name)] if isinstance(data, list) else data[name]
        except (KeyError, IndexError, TypeError, ValueError):
            return None
    return data


class Bug(Model):
    """A bug that was seen by real users, and the guarantees that catch it."""

    symptom: str = Field(min_length=10)
    sources: tuple[str, ...] = Field(min_length=1)
    fails: tuple[Side, ...] = Field(min_length=1)
    passes: tuple[Side, ...] = ()
    guarantees: tuple[str, ...] = Field(min_length=1)
    also_red: tuple[str, ...] = ()
    runtime: bool = True  # the bundled runtime is a passing side
    why: str = ""  # it is not

    @field_validator("guarantees", "also_red")
    @classmethod
    def _guarantees_exist(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            check_guarantee(name)
        return names

    @field_validator("sources")
    @classmethod
    def _sources_can_be_found(cls, sources: tuple[str, ...]) -> tuple[str, ...]:
        import re

        for source in sources:
            if not re.fullmatch(SOURCE, source):
                raise ValueError(f"`{source}`: expected OWNER/REPOSITORY#NUMBER or an https URL")
        return sources

    @model_validator(mode="after")
    def _sides_are_whole(self) -> Bug:
        if self.runtime == bool(self.why):
            raise ValueError("`why` goes with `runtime: false`, and tells why it is no green side")
        labels = [side.label for side in self.sides]
        if twice := [label for label in labels if labels.count(label) > 1]:
            raise ValueError(f"the side `{twice[0]}` is there twice")
        if not self.passing:
            raise ValueError("expected a side under `passes`: a bug is told from a broken test")
        return self

    @property
    def passing(self) -> tuple[Side, ...]:
        """Return the green sides; the bundled runtime is one unless the file says why not."""
        given = any(side.target == "runtime" for side in self.passes)
        own = () if given or not self.runtime else (Side(target="runtime"),)
        return (*self.passes, *own)

    @property
    def sides(self) -> tuple[Side, ...]:
        """Return all sides, the red ones first."""
        return (*self.fails, *self.passing)

    def side_of(self, scenario: Mapping[str, Any], pins: tuple[Pin, ...]) -> Side | None:
        """Return the side that a dumped scenario with these versions is; the most special one."""
        found = [side for side in self.sides if side.matches(scenario, pins)]
        return max(found, key=lambda side: len(side.overrides), default=None)

    def references(self) -> Iterator[str]:
        """Yield what the bug may be called by: `OWNER/REPO#N`, `REPO#N` and `N`."""
        for source in self.sources:
            yield source
            if "#" in source and "://" not in source:
                yield source.partition("/")[2]
            yield source.replace("#", "/").rpartition("/")[2]
