"""Settings that an admin changes: read from the database at start, written to it on change."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

from fastapi import APIRouter, HTTPException

from harness.targets.stock.users import Current, database

router = APIRouter(prefix="/api/v1/configs")


def _stored() -> dict[str, Any]:
    with closing(database()) as rows, rows:
        rows.execute("CREATE TABLE IF NOT EXISTS config (name TEXT PRIMARY KEY, value)")
        found = rows.execute("SELECT name, value FROM config").fetchall()
    return {"DEFAULT_MODELS": "", **{name: json.loads(text) for name, text in found}}


settings = _stored()


@router.get("/models")
async def models(_user: Current) -> dict[str, Any]:
    """Return the settings."""
    return settings


@router.post("/models")
async def set_models(form: dict[str, Any], user: Current) -> dict[str, Any]:
    """Change settings, as the admin."""
    if user["role"] != "admin":
        raise HTTPException(403, "only the admin changes settings")
    changed = {name: form[name] for name in settings.keys() & form.keys()}
    with closing(database()) as rows, rows:
        values = [(name, json.dumps(value)) for name, value in changed.items()]
        rows.executemany("REPLACE INTO config VALUES (?, ?)", values)
    settings.update(changed)
    return settings
