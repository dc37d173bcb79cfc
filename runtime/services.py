"""Everything one worker consists of, wired once; started in order and undone in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from runtime.accounts import Accounts
from runtime.completions import Completion, Request, Tools
from runtime.config_schema import JWT_EXPIRY
from runtime.config_store import ACTION as CONFIG_ACTION
from runtime.config_store import ConfigStore
from runtime.database import Database, DatabaseUnavailable
from runtime.memberships import Memberships
from runtime.metrics import CommandObserver, Metrics
from runtime.metrics_state import StateCollector
from runtime.model_cache import ModelCache
from runtime.passwords import Passwords
from runtime.provider import Provider
from runtime.realtime.documents_setup import create_documents
from runtime.realtime.pools import shared_map
from runtime.realtime.server import SocketServer, create_manager, create_socket_server
from runtime.realtime.session_pool import SessionPool
from runtime.redis.client import RedisClient
from runtime.redis.errors import RedisUnavailable
from runtime.redis.factory import topology_from
from runtime.redis.keys import Keys
from runtime.redis.subscriber import Subscriber
from runtime.redis.topology import Topology
from runtime.response_streams import ResponseStreams
from runtime.revocations import ACTION, RevocationNotices
from runtime.sessions import CookieSessions, Lifetime, Sessions, SharedSessions
from runtime.settings import Settings, parse_duration
from runtime.sign_in_limit import SignInLimit
from runtime.supervision import Loop, Supervisor
from runtime.task_owner import TaskOwner
from runtime.task_records import TaskRecords
from runtime.task_stops import StopIntents
from runtime.task_store import RUNNING, TaskRow, TaskStore
from runtime.tasks import Draining, Tasks
from runtime.telemetry import spans
from runtime.tokens import Identity, Tokens, Told

if TYPE_CHECKING:
    from runtime.telemetry.setup import Telemetry

log = logging.getLogger(__name__)

CHAT_OWNERS = 20_000
FORGET_EVERY_S = 3600.0
DROP_TRIES = 60
FLUSH_WITHIN_S = 1.0
LOOP_SILENT_S = 3.0  # of loops that run each second, and without which stops are late
SLOW_LOOP_SILENT_S = 10.0  # of loops that succeed within a few seconds


class RedisParts:
    """What exists only with Redis: one client, one subscription, the shared task records."""

    def __init__(
        self,
        topology: Topology,
        settings: Settings,
        keys: Keys,
        store: TaskStore,
        metrics: Metrics,
    ) -> None:
        self.topology = topology
        observer = CommandObserver(metrics, "commands")
        self.client = RedisClient(topology, settings, observer=observer)
        self.records = TaskRecords(
            self.client, keys, settings.instance_id, settings.redis_task_ttl, store.states
        )
        self.intents = StopIntents(self.client, keys, store.request_stop)
        self.subscriber: Subscriber | None = None

    async def close(self) -> None:
        """Close every connection."""
        if self.subscriber is not None:
            await self.subscriber.stop()
        await self.client.close()
        await self.topology.close()


class Services:
    """The services of one worker."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keys = Keys(settings.redis_key_prefix)
        self.supervisor = Supervisor()
        self.started = self.draining = False
        self.metrics = Metrics()
        self.telemetry = _telemetry_of(settings, self.metrics)
        self.database = Database(settings.database)
        self.passwords = Passwords(settings.argon2_time_cost, settings.argon2_memory_kib)
        self.task_store = TaskStore(self.database, f"{settings.instance_id}.{uuid.uuid4().hex[:8]}")
        topology = topology_from(settings)
        self.redis = (
            RedisParts(topology, settings, self.keys, self.task_store, self.metrics)
            if topology
            else None
        )
        client = self.redis.client if self.redis else None
        self.config = ConfigStore(self.database, client, self.keys, settings)
        self.config.on_change(self._configure)
        self.models = shared_map(client, self.keys.models)
        self.model_lists = ModelCache(self.config, client, self.keys, settings, self.models)
        self.provider = Provider(self.model_lists.route)
        self.sign_in_limit = SignInLimit(client, self.keys, settings)
        self.accounts = Accounts(self.database)
        self.sessions = self._make_sessions()
        self.notices = RevocationNotices(
            client, self.keys, self._recheck_sockets, settings.jwt_expires_in
        )
        self.tokens = self._make_tokens()
        self.tasks = self._make_tasks()
        self.streams = ResponseStreams(
            self.task_store, client, self.keys, settings.redis_response_stream_ttl
        )
        self.task_owner = TaskOwner(
            self.task_store,
            self.tasks,
            self.streams,
            self.redis.records if self.redis else None,
            self.emit_to_user,
        )
        self._sockets_topology = _separate_topology(settings)
        self._sockets_client = _separate_client(settings, self._sockets_topology)
        self.memberships = Memberships(self.database)
        self.realtime = self._make_realtime(client, self._sockets_topology or topology)
        self.documents = create_documents(
            settings, self.realtime, self.database, self.memberships, self._sockets_client or client
        )
        self._chat_owners: OrderedDict[str, str] = OrderedDict()
        self.metrics.registry.register(StateCollector(self))
        self.database.on_write_wait = partial(self.metrics.waited, "database-writer")
        self.model_lists.on_lock_wait = partial(self.metrics.waited, "model-list")

    def _make_realtime(self, client: RedisClient | None, topology: Topology | None) -> SocketServer:
        """Return the sockets' server; `topology` carries its events, `client` its pools."""
        pool = SessionPool(
            client,
            self.keys,
            self.settings.instance_id,
            lease_s=self.settings.instance_lease,
            timeout_s=self.settings.session_pool_timeout,
        )
        return create_socket_server(
            self.settings,
            create_manager(self.settings, topology, self.keys),
            self.tokens.verify,
            pool,
            keys=self.keys,
            memberships=self.memberships,
            supervisor=self.supervisor,
        )

    def _make_sessions(self) -> Sessions:
        """Return sessions in Redis, or in signed cookies where there is none; said once."""
        s = self.settings
        lifetime = Lifetime(s.session_lifetime, s.session_rolling)
        if self.redis is not None and s.enable_star_sessions_middleware:
            return SharedSessions(self.redis.client, self.keys, s.webui_secret_key, lifetime)
        if s.enable_star_sessions_middleware:
            log.warning("Redis is not configured: sessions are kept in signed cookies.")
        return CookieSessions(s.webui_secret_key, lifetime)

    def _make_tokens(self) -> Tokens:
        s = self.settings
        told = Told(self.notices.token, self.notices.user, self.notices.heard)
        return Tokens(
            self.database, s.webui_secret_key, s.jwt_expires_in, told, s.revocation_policy
        )

    def _make_tasks(self) -> Tasks:
        if self.redis is None:
            return Tasks(self.task_store.request_stop)
        tasks = Tasks(self.task_store.request_stop, self.redis.records, self.redis.intents)
        self.redis.records.running = lambda: tasks.running
        self.redis.records.is_finished = tasks.is_finished
        self.redis.intents.cancel = tasks.cancel
        return tasks

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
        parts += [self._sockets_client.close] if self._sockets_client else []
        parts += [self._sockets_topology.close] if self._sockets_topology else []
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
        await self.task_store.begin(row, request.message_id, new_chat=new_chat)
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

    async def emit_to_user(self, user_id: str, payload: dict[str, Any]) -> None:
        """Send an `events` message to all sockets of a user."""
        await self.realtime.emit_to_user(user_id, payload)

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

    def _configure(self, keys: frozenset[str]) -> None:
        """Have changed configuration values take effect on this worker."""
        if JWT_EXPIRY in keys:
            lifetime = parse_duration(self.config[JWT_EXPIRY])
            self.tokens.lifetime_s = self.notices.lifetime_s = lifetime

    async def _recheck_sockets(self, room: str) -> None:
        await self.realtime.recheck_room(room)

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


def _separate_topology(settings: Settings) -> Topology | None:
    """Return the topology of the sockets' own Redis, None when they share the other one."""
    return topology_from(settings.websocket()) if settings.separate_websocket_redis else None


def _telemetry_of(settings: Settings, metrics: Metrics) -> Telemetry | None:
    """Start OpenTelemetry if it is on; only then is it imported."""
    if not settings.enable_otel:
        return None
    from runtime.telemetry.setup import Telemetry

    return Telemetry(settings, settings.instance_id, metrics.registry)


def _separate_client(settings: Settings, topology: Topology | None) -> RedisClient | None:
    return RedisClient(topology, settings.websocket()) if topology else None


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
