"""Liveness, and the truth about readiness: each dependency and loop, within a second."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from fastapi import APIRouter, Request, Response

from runtime.api import chat_schemas as shown
from runtime.api.support import reply, services
from runtime.services import Services, status_of
from runtime.storage.database import DatabaseUnavailable

router = APIRouter()
DATABASE_WITHIN_S = 0.8
REMEMBER_DATABASE_S = 0.4


@router.get("/health", response_model=shown.Health)
async def health() -> Response:
    """Say that the event loop turns."""
    return reply({"status": True})


@router.get("/health/db", response_model=shown.DatabaseHealth)
async def health_db(request: Request) -> Response:
    """Say whether the database answers."""
    problem = await DatabaseCheck.of(request).problem(services(request))
    return reply({"status": not problem, "detail": problem}, 500 if problem else 200)


@router.get("/ready", response_model=shown.Ready)
async def ready(request: Request) -> Response:
    """Say whether work may be sent here, and what is wrong if not."""
    here = services(request)
    database = DatabaseCheck.of(request)
    problems = await _problems(here, database)
    status = {**status_of(here), "dependencies": _dependencies(here, database)}
    if problems:
        return reply({"status": False, "detail": "; ".join(problems), **status}, 503)
    return reply({"status": True, **status})


async def _problems(here: Services, database: DatabaseCheck) -> list[str]:
    found = []
    if not here.started:
        found.append("Startup not complete")
    if here.draining:
        found.append("Shutting down")
    if await database.problem(here):
        found.append("Database not ready")
    return found + _redis_problems(here) + _silent_loops(here)


def _dependencies(here: Services, database: DatabaseCheck) -> dict[str, Any]:
    """Return what this worker needs, whether it is there, and the age of its last answer."""
    found: dict[str, Any] = {"database": database.status}
    if (redis := here.redis) is not None:
        age = round(time.monotonic() - redis.client.last_success, 3)
        found["redis"] = {"available": redis.client.available, "age_s": age}
        events = here.realtime.manager.status()
        which = "websocket_redis" if here.settings.separate_websocket_redis else "redis_events"
        ages = [c["age_s"] for c in events.get("connections", {}).values()]
        oldest = None if None in ages else max(ages, default=None)
        found[which] = {"available": bool(events["caught_up"]), "age_s": oldest}
    return found


def _redis_problems(here: Services) -> list[str]:
    if here.redis is None:
        return []
    found = [] if here.redis.client.available else ["Redis not ready"]
    if here.redis.subscriber is None or not here.redis.subscriber.subscribed:
        found.append("Not subscribed to commands")
    if not here.realtime.manager.caught_up:
        found.append("Events of other workers not caught up")
    return found


def _silent_loops(here: Services) -> list[str]:
    """Name the loops whose last success is too long ago, with its age."""
    loops = list(here.supervisor.loops.values())
    return [f"No success in {loop.name} for {loop.age:.1f} s" for loop in loops if loop.is_silent]


class DatabaseCheck:
    """One question to the database at a time, whoever asks, its answer kept for a moment."""

    def __init__(self) -> None:
        self._at = 0.0
        self._problem = ""
        self._answered = 0.0
        self._asking: asyncio.Task[None] | None = None

    @staticmethod
    def of(request: Request) -> DatabaseCheck:
        """Return the worker's check."""
        state: Any = request.app.state
        if not hasattr(state, "database_check"):
            state.database_check = DatabaseCheck()
        check: DatabaseCheck = state.database_check
        return check

    @property
    def status(self) -> dict[str, Any]:
        """Return whether it answered the last question, and the age of its last answer in s."""
        age = round(time.monotonic() - self._answered, 3) if self._answered else None
        return {"available": bool(self._answered) and not self._problem, "age_s": age}

    async def problem(self, here: Services) -> str:
        """Return what is wrong, empty when nothing is; within 0.8 s."""
        if time.monotonic() - self._at < REMEMBER_DATABASE_S:
            return self._problem
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(here))
        done, _ = await asyncio.wait([self._asking], timeout=DATABASE_WITHIN_S)
        return self._problem if done else f"no answer within {DATABASE_WITHIN_S:g} s"

    async def _ask(self, here: Services) -> None:
        try:
            await here.database.ping()
            self._problem, self._answered = "", time.monotonic()
        except DatabaseUnavailable as error:
            self._problem = str(error)
        self._at = time.monotonic()
