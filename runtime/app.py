"""create_app(settings): the services, the routes and the sockets of one worker."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect

from runtime.api import (
    auths,
    chats,
    client_config,
    configs,
    diagnostics,
    documents,
    health,
    metrics,
    models,
    presence,
    rooms,
    session,
    tasks,
    users,
)
from runtime.api.openapi import describe
from runtime.api.requests import BodyLimit, not_as_expected
from runtime.api.schemas import PROBLEMS
from runtime.api.support import reply
from runtime.redis.errors import RedisUnavailable
from runtime.services import Services
from runtime.settings import Settings
from runtime.storage.database import DatabaseUnavailable, DatabaseUncertain
from runtime.telemetry.middleware import RequestMetrics

ROUTERS = (
    *(auths.router, users.router, session.router, chats.router, tasks.router, models.router),
    *(rooms.router, presence.router, health.router, metrics.router, configs.router),
    *(diagnostics.router, client_config.router, documents.router),
)
SOCKETS = "/ws"
HUNG_UP = 499  # as nginx has it in its log
GC_THRESHOLD = (50_000, 20, 20)  # a full collection of a large heap would stall the loop


def create_app(settings: Settings) -> FastAPI:
    """Return the ASGI application; its lifespan starts and stops the services."""
    services = Services(settings)
    app = FastAPI(
        title="runtime",
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json" if settings.enable_openapi else None,
        responses=PROBLEMS,
    )
    app.state.services = services
    for router in ROUTERS:
        app.include_router(router)
    describe(app, ROUTERS)
    app.mount(SOCKETS, services.realtime.asgi)
    app.add_exception_handler(RequestValidationError, not_as_expected)
    app.add_exception_handler(DatabaseUnavailable, _database_unavailable)
    app.add_exception_handler(RedisUnavailable, _redis_unavailable)
    app.add_exception_handler(ClientDisconnect, _hung_up)
    app.add_middleware(BodyLimit)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=list(settings.cors_origins),
        allow_credentials="*" not in settings.cors_origins,
        allow_methods=["*"],
        allow_headers=["*"],
    )
    _observe(app, services)
    return app


def _observe(app: FastAPI, services: Services) -> None:
    """Put the measuring layers around everything else, as far as anybody wants to know."""
    settings, telemetry = services.settings, services.telemetry
    if settings.metrics_access != "off" or settings.sends("metrics"):
        app.add_middleware(RequestMetrics, metrics=services.metrics)
    if telemetry is not None:
        telemetry.instrument_app(app)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    try:
        await services.start()
        settle_memory()
        yield
    finally:
        await services.stop()


def settle_memory() -> None:
    """Take what start-up made out of the collector's sight; collect seldom from now on."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)


async def _database_unavailable(_: Request, error: Exception) -> Response:
    status = 504 if isinstance(error, DatabaseUncertain) else 503
    return reply({"detail": f"The database does not answer: {error}"}, status)


async def _hung_up(_: Request, error: Exception) -> Response:
    """Answer nobody: the client went before its request was read, which is no fault of ours."""
    del error
    return Response(status_code=HUNG_UP)


async def _redis_unavailable(_: Request, error: Exception) -> Response:
    status = 503 if getattr(error, "refused", False) else 504
    return reply({"detail": f"Redis does not answer: {error}"}, status)
