"""Who is online, and which models are in use, on any worker."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from runtime.api import room_schemas as schemas
from runtime.api.support import Who, reply, services

router = APIRouter(prefix="/api")


@router.get("/usage", response_model=schemas.Usage)
async def usage(request: Request, _: Who) -> Response:
    """Return the models in use and how many users are online."""
    realtime = services(request).realtime
    models = await realtime.usage.models()
    return reply({"model_ids": models, "user_count": await realtime.pool.user_count()})


@router.get("/v1/users/{user_id}/active", response_model=schemas.Active)
async def active(request: Request, _: Who, user_id: schemas.Identifier) -> Response:
    """Tell whether a user has a socket on any worker."""
    return reply({"active": await services(request).realtime.pool.is_active(user_id)})
