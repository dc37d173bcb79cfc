"""Metrics that are read when somebody asks: the state of connections, listeners, tasks, sockets."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from runtime.telemetry.outlet import dropped_lines

if TYPE_CHECKING:
    from runtime.parts import RedisParts
    from runtime.redis.client import RedisClient
    from runtime.services import Services

Rows = Iterable[tuple[tuple[str, ...], float]]


def gauge(name: str, about: str, labels: tuple[str, ...], rows: Rows) -> Metric:
    """Return a gauge family; a row is its label values and its value."""
    family = GaugeMetricFamily(name, about, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def counter(name: str, about: str, labels: tuple[str, ...], rows: Rows) -> Metric:
    """Return a counter family."""
    family = CounterMetricFamily(name, about, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


LIMIT_OUTCOMES = ("admitted", "denied")
LIST_RESULTS = {
    "hits": "memory",
    "shared_hits": "redis",
    "misses": "provider",
    "waits": "waited",
    "redis_errors": "redis_error",
    "provider_errors": "provider_error",
}


class StateCollector(Collector):
    """Reads the services; asks nobody, and so never waits."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def describe(self) -> Iterator[Metric]:
        """Name nothing in advance: the services are not complete yet."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        here = self._services
        yield from _worker(here)
        yield from _loops(here)
        yield from _tasks(here)
        yield from _sockets(here)
        yield from _events(here.realtime.manager.status())
        yield from _limits(here)
        yield from _shared(here)
        yield from _unsure(here)
        yield from _documents(here)
        if here.redis is not None:
            yield from _commands(here.redis.client)
            yield from _listeners(here.redis, here.realtime.manager.status())


def _worker(here: Services) -> Iterator[Metric]:
    mode = here.redis.topology.mode if here.redis else "none"
    who = ((here.settings.instance_id, mode, here.settings.manager or "none"), 1.0)
    yield gauge("runtime_info", "Always 1.", ("instance", "redis", "manager"), [who])
    yield gauge("runtime_draining", "1 while shutting down.", (), [((), float(here.draining))])
    about = "Log lines that were given up, for nobody took them in time."
    yield counter("runtime_log_lines_dropped", about, (), [((), float(dropped_lines()))])


def _loops(here: Services) -> Iterator[Metric]:
    loops = list(here.supervisor.loops.values())
    label = ("loop",)
    restarts = [((loop.name,), float(loop.restarts)) for loop in loops]
    ages = [((loop.name,), loop.age) for loop in loops]
    yield counter("runtime_loop_restarts", "Failures of a background loop.", label, restarts)
    about = "Seconds since a background loop last did what it is for."
    yield gauge("runtime_loop_age_seconds", about, label, ages)


def _tasks(here: Services) -> Iterator[Metric]:
    running = float(len(here.tasks.running))
    yield gauge("runtime_tasks_active", "Tasks that this worker runs.", (), [((), running)])
    owners = here.task_owner
    buried = [((), float(owners.interrupted))]
    about = "Tasks of dead workers that this one ended."
    yield counter("runtime_tasks_stale", about, (), buried)
    about = "Running tasks in Redis of another installation with the same prefix."
    yield gauge("runtime_tasks_strangers", about, (), [((), float(owners.strangers))])
    if here.redis is not None:
        pending = [((), float(here.redis.intents.pending))]
        about = "Stops that no owner has confirmed yet."
        yield gauge("runtime_stops_pending", about, (), pending)
        records = [((), float(here.redis.records.pending))]
        about = "Task records that Redis does not have as they should be."
        yield gauge("runtime_task_records_pending", about, (), records)


def _sockets(here: Services) -> Iterator[Metric]:
    sockets = [((), float(here.realtime.sockets))]
    yield gauge("runtime_sockets", "Sockets of this worker.", (), sockets)
    door = here.realtime.admission
    about = "Sockets and handshakes of this worker without a valid token."
    yield gauge("runtime_sockets_anonymous", about, (), [((), float(door.strangers))])
    line = here.realtime.turnstile
    about = "Handshakes that wait for their turn at the database."
    yield gauge("runtime_handshakes_waiting", about, (), [((), float(line.waiting))])
    refused = [(("door",), float(door.refused)), (("line",), float(line.gave_up))]
    about = "Handshakes refused at the door, or dropped after too long a wait."
    yield counter("runtime_handshakes_refused", about, ("where",), refused)
    pool = [((), float(len(here.realtime.pool)))]
    about = "Sockets of this worker in the session pool."
    yield gauge("runtime_session_pool_size", about, (), pool)
    leads = [((), float(bool(here.realtime.leader.fence)))]
    yield gauge("runtime_leader", "1 while this worker leads.", (), leads)


EVENT_COUNTERS = {
    "dropped": "Events that were given up unsent.",
    "resent": "Events that were sent again: Redis had lost them.",
    "duplicates": "Events that came more than once, and were dropped.",
    "gaps": "Holes in what other workers sent that nobody filled.",
    "resync_hints": "Times that sockets were told to fetch anew.",
}


def _events(status: dict[str, Any]) -> Iterator[Metric]:
    """Yield what the manager knows; the stock one knows nothing."""
    caught_up = [((), float(bool(status.get("caught_up"))))]
    yield gauge("runtime_events_caught_up", "1 when workers hear each other.", (), caught_up)
    for name, about in EVENT_COUNTERS.items():
        if name in status:
            yield counter(f"runtime_events_{name}", about, (), [((), float(status[name]))])
    if "unsent" in status:
        unsent = [((), float(status["unsent"]))]
        yield gauge("runtime_events_unsent", "Events that Redis does not have yet.", (), unsent)


def _limits(here: Services) -> Iterator[Metric]:
    limits = here.sign_in_limit.status()
    alone = [((name,), float(bool(s["fallback"]))) for name, s in limits.items()]
    about = "1 while this worker counts attempts alone, without Redis."
    yield gauge("runtime_rate_limit_fallback", about, ("limit",), alone)
    decided = [
        ((name, what), float(s[what])) for name, s in limits.items() for what in LIMIT_OUTCOMES
    ]
    about = "Attempts by what became of them."
    yield counter("runtime_rate_limit_attempts", about, ("limit", "outcome"), decided)


def _shared(here: Services) -> Iterator[Metric]:
    """Yield what all workers should agree on: the configuration and the model list."""
    config, lists = here.config.status(), here.model_lists.status()
    about = "Version of the configuration that this worker has."
    yield gauge("runtime_config_version", about, (), [((), float(config["version"]))])
    age = "Seconds since the database was asked for a newer one."
    yield gauge("runtime_config_age_seconds", age, (), [((), config["age_s"])])
    results = [((result,), float(lists[name])) for name, result in LIST_RESULTS.items()]
    about = "Calls for the model list by where it came from, and errors on the way."
    yield counter("runtime_model_list_calls", about, ("result",), results)


def _unsure(here: Services) -> Iterator[Metric]:
    tokens = here.tokens.status
    unsure = [((what,), float(tokens[f"{what}_unverified"])) for what in ("accepted", "refused")]
    about = "Tokens that were decided on by policy: the database did not answer."
    yield counter("runtime_tokens_unverified", about, ("decision",), unsure)


def _documents(here: Services) -> Iterator[Metric]:
    found = here.documents.upkeep.status()
    opened = [((), float(found["open"]))]
    yield gauge("runtime_documents_open", "Documents in use here.", (), opened)
    unsaved = [((), float(found["unsaved"]))]
    about = "Of these, with edits that the database does not have yet."
    yield gauge("runtime_documents_unsaved", about, (), unsaved)
    failed = [((), float(found["failed_saves"]))]
    yield counter("runtime_documents_failed_saves", "Saves that failed.", (), failed)


def _commands(client: RedisClient) -> Iterator[Metric]:
    breakers = list(client.breakers.items())
    label = ("client", "shard")
    opened = [((client.purpose, shard), float(b.is_open)) for shard, b in breakers]
    times = [((client.purpose, shard), float(b.opened)) for shard, b in breakers]
    yield gauge("runtime_redis_breaker_open", "1 while calls fail at once.", label, opened)
    yield counter("runtime_redis_breaker_opened", "Times that it opened.", label, times)
    waiting = [((client.purpose,), float(client.waiting))]
    yield gauge("runtime_redis_calls_waiting", "Calls without an answer.", ("client",), waiting)


def _listeners(redis: RedisParts, events: dict[str, Any]) -> Iterator[Metric]:
    """Yield connections by purpose, and how each listener is."""
    listeners = _listener_states(redis, events)
    connections = [((redis.client.purpose,), float(redis.client.connections))]
    connections += [((name,), float(up)) for name, (up, _, _) in listeners.items()]
    about = "Open connections of this worker, by purpose."
    yield gauge("runtime_redis_connections", about, ("purpose",), connections)
    label = ("listener",)
    state = [((name,), float(up)) for name, (up, _, _) in listeners.items()]
    yield gauge("runtime_listener_up", "1 while a listener is connected.", label, state)
    ages = [((name,), age) for name, (_, age, _) in listeners.items() if age is not None]
    about = "Seconds since a listener's last sign of life."
    yield gauge("runtime_listener_age_seconds", about, label, ages)
    again = [((name,), float(max(0, n))) for name, (_, _, n) in listeners.items()]
    yield counter("runtime_listener_reconnects", "Connections after the first.", label, again)
    if (lag := events.get("lag_s")) is not None:
        about = "How old the newest event was when it was read."
        yield gauge("runtime_events_lag_seconds", about, (), [((), float(lag))])


def _listener_states(
    redis: RedisParts, events: dict[str, Any]
) -> dict[str, tuple[bool, float | None, int]]:
    """Return name → whether it is connected, seconds since its last success, reconnects."""
    found: dict[str, tuple[bool, float | None, int]] = {}
    if (subscriber := redis.subscriber) is not None:
        at = subscriber.last_success
        age = time.monotonic() - at if at else None
        found["subscriber"] = (subscriber.subscribed, age, subscriber.subscriptions - 1)
    for name, state in events.get("connections", {}).items():
        found[name] = (state["open"], state["age_s"], state["reconnects"])
    return found
