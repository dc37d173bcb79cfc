"""Events between workers: our log against python-socketio's own Redis manager, in turns.

Each manager has two workers, an emitter on one core and a receiver on the other; Redis and the
client that hears share the emitter's core. Targets: 1.5 times the peak of the stock manager;
at 500 events/s a p99 of at most twice the stock one's; 50 µs of the worker's processor for each
event delivered in a broadcast to 5000 sockets.
"""

from __future__ import annotations

import asyncio
import statistics
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.benchmarks.event_sockets import Counter, EventSocket, open_sockets
from tests.benchmarks.figures import Figures
from tests.benchmarks.parts import BenchWorker, load_on_core, post, sign_up, start_bench_worker
from tests.live import Live, live

EMITTER = "tests.benchmarks.bench_worker"
MANAGERS = {"log": "redis", "stock": "redis-pubsub"}
ROUNDS = 5
PEAK_EVENTS, CALLERS = 20_000, 50
PACED_PER_S, PACED_S = 500, 4
SOCKETS, BROADCASTS = 5000, 4
WITHIN_S = 60.0


@dataclass
class Pair:
    """Two workers, a user on the second, and what its socket hears."""

    emitter: BenchWorker
    receiver: BenchWorker
    user: str
    token: str
    counter: Counter
    sockets: list[EventSocket]

    async def emit(self, count: int, **how: Any) -> tuple[float, float]:
        """Emit on one worker; return the begin and when the last was heard (monotonic s)."""
        heard = self.counter.expect(count)
        body = {"user": self.user, "count": count, **how}
        answer, last = await asyncio.gather(
            post(f"{self.emitter.url}/bench/emit", body), asyncio.wait_for(heard, WITHIN_S)
        )
        return answer["began"], last

    async def close(self) -> None:
        """Close the sockets."""
        await asyncio.gather(*(socket.close() for socket in self.sockets))


async def start_pair(parts: Live, name: str, sockets: int, *, timed: bool) -> Pair:
    """Start both workers with a manager; `timed` keeps latencies."""
    env = {"WEBSOCKET_MANAGER": MANAGERS[name], "REDIS_KEY_PREFIX": name}
    emitter = await start_bench_worker(parts, f"{name}-0", 0, EMITTER, **env)
    receiver = await start_bench_worker(parts, f"{name}-1", 1, **env)
    account = await sign_up(receiver, "ann")
    counter = Counter()
    on_event = counter.add_timed if timed else counter.add
    opened = await open_sockets(receiver, account["token"], sockets, on_event)
    return Pair(emitter, receiver, account["id"], account["token"], counter, opened)


@dataclass(frozen=True)
class Round:
    """Of one manager: events/s at most, receiver's µs an event then, p50 and p99 in ms at 500/s."""

    peak: float
    cpu_us: float
    p50: float
    p99: float


async def one_round(pair: Pair) -> Round:
    """Measure a manager once."""
    cpu = pair.receiver.cpu_s()
    began, last = await pair.emit(PEAK_EVENTS, at_once=CALLERS)
    cpu = pair.receiver.cpu_s() - cpu
    pair.counter.latencies.clear()
    await pair.emit(PACED_PER_S * PACED_S, per_s=PACED_PER_S)
    hundredths = statistics.quantiles(pair.counter.latencies, n=100)
    per_s = PEAK_EVENTS / (last - began)
    return Round(per_s, cpu / PEAK_EVENTS * 1e6, hundredths[49] * 1e3, hundredths[98] * 1e3)


async def compare(folder: Path) -> list[dict[str, Round]]:
    """Measure both managers in turns."""
    async with AsyncExitStack() as stack:
        parts = await stack.enter_async_context(live("standalone", folder))
        pairs = {}
        for name in MANAGERS:
            pairs[name] = await start_pair(parts, name, 1, timed=True)
            stack.push_async_callback(pairs[name].close)
        await stack.enter_async_context(load_on_core(0, parts.deployment.nodes[0].process))
        for pair in pairs.values():  # warm
            await pair.emit(2000, at_once=CALLERS)
        return [{n: await one_round(p) for n, p in pairs.items()} for _ in range(ROUNDS)]


@pytest.mark.timeout(400)
def test_events_between_workers(benchmark: Any, figures: Figures, tmp_path: Path) -> None:
    """The log carries more than the stock manager, and is about as quick."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        rounds = benchmark.pedantic(lambda: runner.run(compare(tmp_path)), rounds=1)
    for name in MANAGERS:
        figures.note(f"peak of the {name}", [r[name].peak for r in rounds], "events/s")
        figures.note(f"receiver's CPU, {name}", [r[name].cpu_us for r in rounds], "us/event")
        figures.note(f"p50 of the {name} at 500/s", [r[name].p50 for r in rounds], "ms")
        figures.note(f"p99 of the {name} at 500/s", [r[name].p99 for r in rounds], "ms")
    peak = [r["log"].peak / r["stock"].peak for r in rounds]
    figures.note("peak, log / stock", peak, "", at_least=1.5)
    p99 = [r["log"].p99 / r["stock"].p99 for r in rounds]
    figures.note("p99 at 500/s, log / stock", p99, "", at_most=2.0)


async def broadcast(folder: Path) -> list[float]:
    """Return the receiver's µs per delivered event of each round."""
    async with AsyncExitStack() as stack:
        parts = await stack.enter_async_context(live("standalone", folder))
        await stack.enter_async_context(load_on_core(0, parts.deployment.nodes[0].process))
        pair = await start_pair(parts, "log", SOCKETS, timed=False)
        stack.push_async_callback(pair.close)
        return [await one_broadcast(pair) for _ in range(ROUNDS + 1)][1:]


async def one_broadcast(pair: Pair) -> float:
    """Emit a few events to all sockets; each is delivered before the next is emitted."""
    cpu = pair.receiver.cpu_s()
    url, body = f"{pair.emitter.url}/bench/emit", {"user": pair.user, "count": 1, "at_once": 1}
    for _ in range(BROADCASTS):
        heard = pair.counter.expect(SOCKETS)
        await asyncio.gather(post(url, body), asyncio.wait_for(heard, WITHIN_S))
    return (pair.receiver.cpu_s() - cpu) / (BROADCASTS * SOCKETS) * 1e6


@pytest.mark.timeout(400)
def test_broadcast_to_5000_sockets(benchmark: Any, figures: Figures, tmp_path: Path) -> None:
    """An event for 5000 sockets of one worker is cheap for each of them."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        rounds = benchmark.pedantic(lambda: runner.run(broadcast(tmp_path)), rounds=1)
    figures.note("CPU per event delivered to 5000 sockets", rounds, "us", at_most=50)
