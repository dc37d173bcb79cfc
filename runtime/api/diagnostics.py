"""The admins' look behind the scenes."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from runtime.api.support import Admin, reply, services
from runtime.operate.diagnostics import survey

router = APIRouter(prefix="/api/v1")


class Diagnostics(BaseModel):
    """What `runtime.operate.diagnostics.survey` finds; `redis` is missing without Redis."""

    instance: str
    settings_fingerprint: str
    loops: dict[str, Any]
    redis: dict[str, Any] | None = None


@router.get("/diagnostics", response_model=Diagnostics)
async def diagnostics(request: Request, _: Admin) -> Response:
    """Return keys by kind, connections by purpose, leases, leader and the settings' fingerprint."""
    return reply(await survey(services(request)))
