"""One worker: started in order, undone in reverse, and what its routes ask for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson

from runtime.accounts.revocations import ACTION
from runtime.accounts.tokens import Identity
from runtime.config.store import ACTION as CONFIG_ACTION
from runtime.operate.metrics_state import StateCollector
from runtime.parts import Parts, RedisParts
from runtime.redis.errors import RedisUnavailable
from runtime.redis.subscriber import Subscriber
from runtime.settings import Settings
from runtime.storage.database import DatabaseUnavailable, DatabaseUncertain
from runtime.supervision import Loop
from runtime.tasks.completions import ERROR, Completion, Request, Tools
from runtime.tasks.registry import Draining
from runtime.tasks.store import RUNNING, Partial, TaskRow
from runtime.telemetry import spans

if TYPE_CHECKING:
    pass

log = logging.getLogger(__name__)

CHAT_OWNERS = 20_000
FORGET_EVERY_S = 3600.0
DROP_TRIES = 60
FLUSH_WITHIN_S = 1.0
LOOP_SILENT_S = 3.0  # of loops that run each second, and without which stops are late
SLOW_LOOP_SILENT_S = 10.0  # of loops that succeed within a few seconds


class Services(Parts):
    """The services of one worker."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.started = self.draining = False
        self._chat_owners: OrderedDict[str, str] = OrderedDict()
        self.metrics.registry.register(StateCollector(self))

    # life

    async def start(self) -> None:
        """Open everything; does not wait for Redis. Raises when the database cannot be used."""
        if self.telemetry is not None:
            self.telemetry.instrument_engine(self.database.engine)
        await self.database.open()
        await self.task_owner.start()
        await self.provider.open()
        await self.config.open()
        self.supervisor.run("configuration", self.config.keep, SLOW_LOOP_SILENT_S)
        self.supervisor.spawn(self.model_lists.warm(), "warming the model cache")
        self.supervisor.run("event loop lag", self.metrics.watch_lag, SLOW_LOOP_SILENT_S)
        self.supervisor.run("revocations", self.notices.tell_forever, SLOW_LOOP_SILENT_S)
        self.supervisor.run("sockets to verify", self.notices.recheck_forever, SLOW_LOOP_SILENT_S)
        self.supervisor.run("changes of accounts", self.tokens.follow_forever)
        self.supervisor.run("expired tokens", self._forget_expired, FORGET_EVERY_S * 2)
        self.supervisor.run("task owners", self.task_owner.keep, SLOW_LOOP_SILENT_S)
        self.supervisor.run("stops in the database", self.task_owner.take_stops, SLOW_LOOP_SILENT_S)
        self.supervisor.run("response streams", self.streams.keep)
        if self.redis is not None:
            self._start_redis(self.redis)
        self.documents.start(self.supervisor)
        await self.realtime.start()
        self.started = True

    def _start_redis(self, redis: RedisParts) -> None:
        redis.topology.start()
        self.supervisor.run("task records", redis.records.keep, LOOP_SILENT_S)
        self.supervisor.run("stop intents", redis.intents.reconcile_forever, LOOP_SILENT_S)
        self.supervisor.run("unconfirmed stops", redis.intents.pursue, SLOW_LOOP_SILENT_S)
        self.supervisor.run("stop confirmations", redis.intents.answer_forever, SLOW_LOOP_SILENT_S)
        self.supervisor.run("rate limits", self.sign_in_limit.merge_forever, SLOW_LOOP_SILENT_S)
        redis.subscriber = Subscriber(
            redis.topology, self.keys.task_commands, self._on_command, self._on_subscribed
        )
        redis.subscriber.start()

    async def drain(self) -> None:
        """Take no new work and end what runs; then take our records away and close the sockets."""
        if self.draining:
            return
        self.draining = True
        await self.tasks.drain(self.settings.drain_timeout)
        await self._remove_records()
        await self.realtime.close_sockets()  # each was told the end of its answers

    async def _remove_records(self) -> None:
        if self.redis is not None and self.redis.client.available:
            with contextlib.suppress(RedisUnavailable, TimeoutError):  # they expire
                async with asyncio.timeout(FLUSH_WITHIN_S):
                    await self.redis.records.flush()
                    await self.streams.write()
        with contextlib.suppress(DatabaseUnavailable):  # then the others find us dead
            await self.task_owner.leave()

    async def stop(self) -> None:
        """Close everything, whatever fails on the way."""
        await self.drain()
        parts = [self.realtime.stop, self.documents.stop, self.supervisor.stop]
        parts += [self.redis.close] if self.redis else []
        parts += [self.sockets_client.close] if self.sockets_client else []
        parts += [self.sockets_topology.close] if self.sockets_topology else []
        parts += [self.model_lists.close, self.provider.close]
        parts += [self.config.close, self.database.close]
        parts += [self.telemetry.stop] if self.telemetry else []
        for close in parts:
            try:
                await close()
            except Exception:  # the others must be closed too
                log.exception("closing failed")
        self.passwords.close()

    # what the routes ask for

    async def begin(self, request: Request, *, new_chat: str | None) -> None:
        """Start an answer; raise MessageTaken, Draining or DatabaseUnavailable."""
        if self.draining:
            raise Draining
        row = TaskRow(request.task_id, request.chat_id, request.user_id, RUNNING)
        try:
            await self.task_store.begin(row, request.message_id, new_chat=new_chat)
        except DatabaseUncertain:  # there may be a row now of a task that never runs
            self.supervisor.spawn(self._end_unbegun(row), "ending what may have begun")
            raise
        self._remember_owner(request.chat_id, request.user_id)
        tools = Tools(
            self.provider, self.task_store, self.streams, self.emit_to_user, self.tasks.ended
        )
        completion = Completion(request, tools)
        parent = spans.traceparent()

        async def work() -> None:
            with spans.continued("chat completion", parent, {"task.id": request.task_id}):
                await completion.run()

        await self.tasks.start(request.task_id, request.chat_id, work)

    async def _end_unbegun(self, row: TaskRow) -> None:
        """End a task that has no work, as soon as the database is back."""
        while not self.draining:  # then `leave` interrupts it
            with contextlib.suppress(DatabaseUnavailable):
                await self.task_store.end(replace(row, state=ERROR), Partial(row.task_id, "", 0))
                return
            await asyncio.sleep(1.0)

    async def chat_owner(self, chat_id: str) -> str | None:
        """Return the owner of a chat; an owner never changes, so the answer is remembered."""
        owner = self._chat_owners.get(chat_id)
        if owner is None and (owner := await self.database.chat_owner(chat_id)) is not None:
            self._remember_owner(chat_id, owner)
        return owner

    def _remember_owner(self, chat_id: str, owner: str) -> None:
        self._chat_owners[chat_id] = owner
        if len(self._chat_owners) > CHAT_OWNERS:
            self._chat_owners.popitem(last=False)

    async def sign_out(self, who: Identity) -> None:
        """Revoke the token that a request came with; the sockets follow in the background."""
        await self.tokens.revoke(who.claims)

    def drop_session(self, identifier: str | None) -> None:
        """Remove a session, now or when Redis is back."""
        if identifier:
            self.supervisor.spawn(self._drop_session(identifier), "dropping a session")

    def cookie_flags(self, which: str) -> dict[str, Any]:
        """Return samesite and secure of the `auth` or `session` cookie."""
        s = self.settings
        site, secure = s.webui_session_cookie_same_site, s.webui_session_cookie_secure
        if which == "auth":
            site = s.webui_auth_cookie_same_site or site
            own = s.webui_auth_cookie_secure
            secure = secure if own is None else own
        return {"samesite": site, "secure": secure}

    # background

    async def _drop_session(self, identifier: str) -> None:
        for _ in range(DROP_TRIES):
            with contextlib.suppress(RedisUnavailable):
                return await self.sessions.remove(identifier)
            await asyncio.sleep(1.0)
        return None

    def _on_subscribed(self) -> None:
        """Look for what was missed, and repair what Redis may have lost meanwhile."""
        if self.redis is not None:
            self.redis.intents.look_now()
        self.sign_in_limit.reassert()
        self.config.copy_again()

    async def _on_command(self, payload: bytes) -> None:
        message = orjson.loads(payload)
        if message.get("action") == ACTION:
            self._on_revoked(message)
        elif message.get("action") == CONFIG_ACTION:
            self.config.look_now()
        elif self.redis is not None:
            self.redis.intents.on_message(message)

    def _on_revoked(self, message: dict[str, Any]) -> None:
        if "jti" in message:
            self.tokens.note_revoked(str(message["jti"]))
        else:
            self.tokens.note_user(str(message["user"]))

    async def _forget_expired(self, loop: Loop) -> None:
        while True:
            with contextlib.suppress(DatabaseUnavailable):
                await self.database.forget_expired_revocations()
                loop.succeeded()
            await asyncio.sleep(FORGET_EVERY_S)


def status_of(services: Services) -> dict[str, Any]:
    """Return what is known without asking anybody: loops, Redis, sockets, tasks."""
    found: dict[str, Any] = {
        "instance": services.settings.instance_id,
        "loops": {name: loop.status for name, loop in services.supervisor.loops.items()},
        "tasks": len(services.tasks.running),
        "task_owners": services.task_owner.status,
        "sockets": services.realtime.status(),
        "documents": services.documents.upkeep.status(),
        "config": services.config.status(),
        "models": services.model_lists.status(),
        "rate_limits": services.sign_in_limit.status(),
        "tokens": {**services.tokens.status, **services.notices.status},
    }
    if (redis := services.redis) is not None:
        age = round(time.monotonic() - redis.client.last_success, 3)
        subscribed = redis.subscriber is not None and redis.subscriber.subscribed
        found["redis"] = {
            "available": redis.client.available,
            "age_s": age,
            "subscribed": subscribed,
            "connections": redis.client.connections,
            "records_pending": redis.records.pending,
            "stops_pending": redis.intents.pending,
        }
    return found
