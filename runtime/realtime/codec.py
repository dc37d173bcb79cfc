"""The JSON module that python-socketio uses, on orjson."""

from __future__ import annotations

from typing import Any

import orjson

JSONDecodeError = orjson.JSONDecodeError


def dumps(value: Any, *_: Any, **__: Any) -> str:
    """Return JSON text; keys that are no text are converted, as the standard module does."""
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()


def loads(text: str | bytes, *_: Any, **__: Any) -> Any:
    """Return the parsed value."""
    return orjson.loads(text)
