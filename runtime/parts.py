"""What one worker consists of, wired once; nothing is opened here."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from runtime.accounts.passwords import Passwords
from runtime.accounts.revocations import RevocationNotices
from runtime.accounts.sessions import CookieSessions, Lifetime, Sessions, SharedSessions
from runtime.accounts.sign_in_limit import SignInLimit
from runtime.accounts.store import Accounts
from runtime.accounts.tokens import Tokens, Told
from runtime.config.schema import JWT_EXPIRY
from runtime.config.store import ConfigStore
from runtime.documents.setup import create_documents
from runtime.models.cache import ModelCache
from runtime.models.provider import Provider
from runtime.operate.metrics import CommandObserver, Metrics
from runtime.realtime.pools import shared_map
from runtime.realtime.server import SocketServer, create_manager, create_socket_server
from runtime.realtime.session_pool import SessionPool
from runtime.redis.client import RedisClient
from runtime.redis.factory import topology_from
from runtime.redis.keys import Keys, new_life
from runtime.redis.subscriber import Subscriber
from runtime.redis.topology import Topology
from runtime.settings import Settings, parse_duration
from runtime.storage.database import Database
from runtime.storage.memberships import Memberships
from runtime.supervision import Supervisor
from runtime.tasks.owner import TaskOwner
from runtime.tasks.records import TaskRecords
from runtime.tasks.registry import Tasks
from runtime.tasks.response_streams import ResponseStreams
from runtime.tasks.stops import StopIntents
from runtime.tasks.store import TaskStore

if TYPE_CHECKING:
    from runtime.telemetry.setup import Telemetry

log = logging.getLogger(__name__)


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


class Parts:
    """The parts of one worker, made in the order in which they need each other.

    What the parts call back is the worker's: `Services` says it.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keys = Keys(settings.redis_key_prefix)
        self.supervisor = Supervisor()
        self.metrics = Metrics()
        self.telemetry = _telemetry_of(settings, self.metrics)
        self.database = Database(settings.database)
        self.passwords = Passwords(settings.argon2_time_cost, settings.argon2_memory_kib)
        self.life = new_life(settings.instance_id)
        self.task_store = TaskStore(self.database, self.life)
        topology = topology_from(settings)
        self.redis = (
            RedisParts(topology, settings, self.keys, self.task_store, self.metrics)
            if topology
            else None
        )
        client = self.redis.client if self.redis else None
        self._wire_config(client)
        self._wire_accounts(client)
        self._wire_tasks(client)
        self._wire_sockets(client, topology)
        self.database.on_write_wait = partial(self.metrics.waited, "database-writer")
        self.model_lists.on_lock_wait = partial(self.metrics.waited, "model-list")

    async def emit_to_user(self, user_id: str, payload: dict[str, Any]) -> None:
        """Send an `events` message to all sockets of a user."""
        await self.realtime.emit_to_user(user_id, payload)

    def _configure(self, keys: frozenset[str]) -> None:
        """Have changed configuration values take effect on this worker."""
        if JWT_EXPIRY in keys:
            lifetime = parse_duration(self.config[JWT_EXPIRY])
            self.tokens.lifetime_s = self.notices.lifetime_s = lifetime

    async def _recheck_sockets(self, room: str) -> None:
        await self.realtime.recheck_room(room)

    def _wire_config(self, client: RedisClient | None) -> None:
        self.config = ConfigStore(self.database, client, self.keys, self.settings)
        self.config.on_change(self._configure)
        self.models = shared_map(client, self.keys.models)
        self.model_lists = ModelCache(self.config, client, self.keys, self.settings, self.models)
        self.provider = Provider(self.model_lists.route)

    def _wire_accounts(self, client: RedisClient | None) -> None:
        self.sign_in_limit = SignInLimit(client, self.keys, self.settings)
        self.accounts = Accounts(self.database)
        self.sessions = self._make_sessions()
        self.notices = RevocationNotices(
            client, self.keys, self._recheck_sockets, self.settings.jwt_expires_in
        )
        self.tokens = self._make_tokens()

    def _wire_tasks(self, client: RedisClient | None) -> None:
        self.tasks = self._make_tasks()
        self.streams = ResponseStreams(
            self.task_store, client, self.keys, self.settings.redis_response_stream_ttl
        )
        self.task_owner = TaskOwner(
            self.task_store,
            self.tasks,
            self.streams,
            self.redis.records if self.redis else None,
            self.emit_to_user,
        )

    def _wire_sockets(self, client: RedisClient | None, topology: Topology | None) -> None:
        self.sockets_topology = _separate_topology(self.settings)
        self.sockets_client = _separate_client(self.settings, self.sockets_topology)
        self.memberships = Memberships(self.database)
        self.realtime = self._make_realtime(client, self.sockets_topology or topology)
        self.documents = create_documents(
            self.settings,
            self.realtime,
            self.database,
            self.memberships,
            self.sockets_client or client,
        )

    def _make_realtime(self, client: RedisClient | None, topology: Topology | None) -> SocketServer:
        """Return the sockets' server; `topology` carries its events, `client` its pools."""
        pool = SessionPool(
            client,
            self.keys,
            self.life,
            lease_s=self.settings.instance_lease,
            timeout_s=self.settings.session_pool_timeout,
        )
        return create_socket_server(
            self.settings,
            create_manager(self.settings, topology, self.keys, self.life),
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
