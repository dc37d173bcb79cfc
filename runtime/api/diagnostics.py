"""The admins' look behind the scenes."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from runtime.api.support import Admin, reply, services
from runtime.diagnostics import survey

router = APIRouter(prefix="/api/v1")


@router.get("/diagnostics")
async def diagnostics(request: Request, _: Admin) -> Response:
    """Return keys by kind, connections by purpose, leases, leader and the settings' fingerprint."""
    return reply(await survey(services(request)))
