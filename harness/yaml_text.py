"""YAML as people write it: a key given twice is a mistake, and mistakes name line and column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from harness.errors import UserError

MERGE = "tag:yaml.org,2002:merge"  # `<<` may stand several times


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping; YAML itself forgets the first one silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping; raise MarkedYAMLError at the second of two equal keys."""
        first: dict[str, yaml.Mark] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == MERGE:
                continue
            if key.value in first:
                raise yaml.MarkedYAMLError(
                    problem=f"the key `{key.value}` is given twice, before in line "
                    f"{first[key.value].line + 1}; only one of them would count",
                    problem_mark=key.start_mark,
                )
            first[key.value] = key.start_mark
        return super().construct_mapping(node, deep)


def parse_yaml(text: str) -> Any:
    """Return the data of a YAML text; raise yaml.YAMLError."""
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def read_yaml(path: Path, called: str) -> tuple[Any, str]:
    """Return the data of a file, and its text; raise UserError with file and line.

    `called` is what the file should be, as in "the scenario file".
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot read {called}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: cannot read {called}: expected text in UTF-8, got the byte "
            f"0x{error.object[error.start]:02x} at {error.start}"
        ) from error
    try:
        return parse_yaml(text), text
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UserError(f"{where}: not valid YAML: {explain(error)}") from error


def explain(error: yaml.YAMLError) -> str:
    """Return what is wrong in one line, with the column where the parser knows it."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if problem is None or mark is None:
        return " ".join(str(error).split())
    context = getattr(error, "context", None)
    return f"{problem} (column {mark.column + 1}{', ' + context if context else ''})"
