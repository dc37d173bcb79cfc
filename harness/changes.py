"""Changes to a scenario: dotted keys and new values, of `--set` and of a bug's sides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from harness.errors import UserError, did_you_mean
from harness.yaml_text import explain, parse_yaml

if TYPE_CHECKING:
    from harness.scenario import Scenario

OPEN_MAPPINGS = ("bounds.", "enough.", "environment.", "neighbour.environment.", "redis.config.")


def parse_overrides(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Return `key=value` texts as a mapping; values are read as YAML. Raises UserError."""
    changes = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {pair}: expected KEY=VALUE, such as --set load.users=20")
        try:
            changes[key.strip()] = parse_yaml(text, key.strip())
        except yaml.YAMLError as error:
            raise UserError(
                f"--set {pair}: the value is not valid YAML: {explain(error)}"
            ) from error
    return changes


def changed(scenario: Scenario, changes: dict[str, Any]) -> Scenario:
    """Return the scenario with dotted keys replaced; raise UserError naming the key."""
    from pydantic import ValidationError

    for key, value in changes.items():
        data = scenario.model_dump(mode="json")
        _put(data, key, value)
        try:
            scenario = type(scenario).model_validate(data)
        except ValidationError as error:
            message = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise UserError(f"--set {key}={value}: {message}; got {value!r}") from error
    return scenario


def _put(data: Any, key: str, value: Any) -> None:
    """Set one dotted key, list items by number; the key must exist or its parent be a mapping."""
    *parents, last = key.split(".")
    place, name = data, last
    try:
        for name in parents:
            place = place[int(name)] if isinstance(place, list) else place[name]
        name = last
        if isinstance(place, list):
            place[int(last)] = value
        elif last in place or not place or key.startswith(OPEN_MAPPINGS):
            place[last] = value
        else:
            raise KeyError(last)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise UserError(f"--set {key}={value}: no such key; {_known(place, name)}") from error


def _known(place: Any, name: str) -> str:
    """Say which keys there are where `name` was not found."""
    if isinstance(place, dict):
        return f"{did_you_mean(name, place)}known here: {', '.join(sorted(place))}"
    if isinstance(place, list):
        return f"known here: {f'0 … {len(place) - 1}' if place else 'none, the list is empty'}"
    return f"what stands there, {place!r:.40}, has no keys"
