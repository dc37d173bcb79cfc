"""What a client has to know before it signs in."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from runtime.api.requests import JsonRoute
from runtime.api.support import reply, services

router = APIRouter(prefix="/api", route_class=JsonRoute)


class Features(BaseModel):
    """How to use the sockets; the interval of heartbeats, in seconds, only when it was set."""

    enable_websocket: bool
    websocket_heartbeat_interval: int | None = None


class ClientConfig(BaseModel):
    """The configuration that clients see."""

    status: bool
    features: Features


@router.get("/config", response_model=ClientConfig)
async def config(request: Request) -> Response:
    """Return how clients are to behave."""
    settings = services(request).settings
    features: dict[str, bool | int] = {"enable_websocket": settings.enable_websocket_support}
    if settings.websocket_heartbeat_interval is not None:
        features["websocket_heartbeat_interval"] = settings.websocket_heartbeat_interval
    return reply({"status": True, "features": features})
