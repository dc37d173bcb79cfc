"""Prometheus' endpoint."""

from __future__ import annotations

import hmac

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from runtime.api.openapi import NEEDS_TOKEN
from runtime.api.support import admin, identity, services, token_of

router = APIRouter()


@router.get("/metrics", response_class=PlainTextResponse, openapi_extra={"security": NEEDS_TOKEN})
async def metrics(request: Request) -> Response:
    """Return this worker's metrics; for admins and whoever has METRICS_TOKEN, unless open."""
    here = services(request)
    if here.settings.metrics_access == "off":
        raise HTTPException(404, "METRICS_ACCESS is off.")
    if here.settings.metrics_access == "admin" and not _has_token(request):
        await admin(await identity(request))
    return Response(generate_latest(here.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _has_token(request: Request) -> bool:
    wanted = services(request).settings.metrics_token
    return bool(wanted) and hmac.compare_digest(token_of(request).encode(), wanted.encode())
