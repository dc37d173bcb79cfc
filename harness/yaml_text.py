"""YAML as people write it: a key given twice is a mistake, and mistakes name line and column."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from harness.errors import UserError

MERGE = "tag:yaml.org,2002:merge"  # `<<` may stand several times
NOTHING = "tag:yaml.org,2002:null"
TEXT = "tag:yaml.org,2002:str"
# texts wherever they go: of 010, 1.10, yes and 2026-01-31 YAML would make something else
TEXTS = re.compile(r"(^|\.)(environment|with|settings|redis\.config)\.[^.]+$")


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


def parse_yaml(text: str, key: str = "") -> Any:
    """Return the data of a YAML text, of a file or of a dotted key; raise yaml.YAMLError.

    Variables, versions and settings of Redis are texts as they stand; `null` stays nothing.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _keep_texts(node, key, set())
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _keep_texts(node: yaml.Node, path: str, seen: set[int]) -> None:
    """Have scalars at TEXTS read as texts, in the node at a dotted path and all below it."""
    if isinstance(node, yaml.ScalarNode):
        if node.tag != NOTHING and TEXTS.search(path):
            node.tag = TEXT
        return
    if id(node) in seen:  # an alias may stand inside its own anchor
        return
    seen.add(id(node))
    for number, item in enumerate(node.value):
        name, value = (item[0].value, item[1]) if isinstance(item, tuple) else (number, item)
        _keep_texts(value, f"{path}.{name}" if path else str(name), seen)


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
