"""The general command client: bounded, with deadlines, honest when Redis is away."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from redis.asyncio import Redis
from redis.exceptions import AskError, ResponseError

from runtime.deadline import Deadline
from runtime.redis.breaker import Breaker
from runtime.redis.errors import RedisDenied, RedisUnavailable, translate
from runtime.redis.redirects import follow
from runtime.redis.shared import SharedWires
from runtime.redis.topology import Key, Topology
from runtime.redis.wire import Address, Argument
from runtime.settings import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")

SILENT_S = 0.1  # a cancelled call that heard nothing for this long met a hanging node
PROBE_TIMEOUT_S = 1.2  # a dial and a round trip, also on a busy machine
RETRY_PAUSE_S = 0.03
KEY_AFTER = {"EVAL": 3, "EVALSHA": 3, "FCALL": 3, "XGROUP CREATE": 2, "BITOP": 2, "OBJECT": 2}
KEYLESS = frozenset(
    {"PING", "TIME", "INFO", "PUBLISH", "SCRIPT", "DBSIZE", "CLIENT", "CONFIG", "ECHO", "FLUSHDB"}
)


def key_of(words: Sequence[Any]) -> Key:
    """Return the key by which a command is routed; a keyless one goes to the empty key's node."""
    name = str(words[0]).upper()
    if name in ("XREAD", "XREADGROUP"):
        upper = [str(w).upper() for w in words]
        return _text(words[upper.index("STREAMS") + 1])
    place = KEY_AFTER.get(name, 1)
    if name == "PUBLISH" and len(words) > 1:
        return _text(words[1])
    if name.split()[0] in KEYLESS or len(words) <= place:
        return ""
    return _text(words[place])


def name_of(commands: Sequence[Sequence[Any]]) -> str:
    """Return what metrics and spans call an exchange: never an argument."""
    name = str(commands[0][0]).upper()
    if len(commands) == 1:
        return name
    same = all(str(words[0]).upper() == name for words in commands)
    return f"PIPELINE {name}" if same else "PIPELINE"


def _text(word: Any) -> Key:
    return word if isinstance(word, (str, bytes)) else str(word)


class Observed(Protocol):
    """One exchange that is measured."""

    def end(self, address: Address | None, error: BaseException | None) -> None:
        """Note how it ended."""


class Observer(Protocol):
    """Measures exchanges (`runtime.operate.metrics.CommandObserver`)."""

    def begin(self, name: str, count: int) -> Observed:
        """Note that `count` commands are sent; `name` holds no argument."""


class Commands(Redis):  # type: ignore[misc,type-arg,unused-ignore]  # redis-py is half typed
    """redis-py's commands and reply conversions, carried by RedisClient's own connections."""

    def __init__(self, client: RedisClient) -> None:
        super().__init__(decode_responses=True, protocol=2)
        self._client = client

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command to the node of its key."""
        reply = await self._client.send(args)
        return self.convert(args, reply, options)

    def convert(self, words: Sequence[Any], reply: Any, options: dict[str, Any]) -> Any:
        """Return the reply as redis-py's method would."""
        callback = self.response_callbacks.get(words[0])
        options.pop("keys", None)
        return callback(reply, **options) if callback else reply

    def pipeline(self, *_: Any, **__: Any) -> Any:
        """Refuse: use RedisClient.pipeline, which also works on a cluster."""
        raise NotImplementedError("use RedisClient.pipeline")

    def pubsub(self, **_: Any) -> Any:
        """Refuse: use Subscriber, which survives failovers."""
        raise NotImplementedError("use Subscriber")


class RedisClient:
    """Runs commands on whatever node serves their key. One per deployment and worker."""

    def __init__(
        self,
        topology: Topology,
        settings: Settings,
        purpose: str = "commands",
        observer: Observer | None = None,
    ) -> None:
        self.topology = topology
        self.purpose = purpose
        self._observer = observer
        self.commands = Commands(self)
        self._wires = SharedWires(topology, purpose, settings.redis_max_connections)
        self._attempts = 1 + settings.redis_sentinel_max_retry_count
        self._breakers: dict[str, Breaker] = {}
        self._forget = topology.on_change(self._moved)
        self._trimming: asyncio.Task[None] | None = None
        self._forbidden: set[str] = set()  # bounded: one text per command
        self.last_success = 0.0  # time.monotonic()

    @property
    def available(self) -> bool:
        """Whether nothing is known to be down."""
        return not any(breaker.is_open for breaker in self._breakers.values())

    @property
    def connections(self) -> int:
        """Open connections: one per node in use."""
        return self._wires.open

    @property
    def waiting(self) -> int:
        """Calls that were sent, or wait for their turn, and have no answer yet."""
        return self._wires.waiting

    @property
    def breakers(self) -> Mapping[str, Breaker]:
        """The breaker of every shard in use."""
        return self._breakers

    async def run(
        self,
        call: Callable[[Redis], Awaitable[T]],
        idempotent: bool = False,
        deadline: float = 1.0,
    ) -> T:
        """Run `call(redis)` within `deadline` seconds; raise RedisUnavailable when it cannot be.

        A command that was surely not executed is tried again; any other only if idempotent. At most
        REDIS_SENTINEL_MAX_RETRY_COUNT times, REDIS_RECONNECT_DELAY apart, and within the deadline.
        Mistakes such as WRONGTYPE pass through as redis-py's ResponseError.
        """
        until = time.monotonic() + deadline
        attempt = 0
        while True:
            attempt += 1
            try:
                async with Deadline(until - time.monotonic()):
                    return await call(self.commands)
            except TimeoutError:
                raise RedisUnavailable(f"no answer within {deadline:g} s") from None
            except RedisUnavailable as error:
                safe = error.retriable and (error.refused or idempotent)
                pause = self.topology.dial.pause(RETRY_PAUSE_S)
                if not safe or attempt >= self._attempts or time.monotonic() + pause >= until:
                    raise
            await asyncio.sleep(pause)

    async def pipeline(
        self,
        commands: Sequence[Sequence[Argument]],
        idempotent: bool = True,
        deadline: float = 1.0,
    ) -> list[Any]:
        """Run the commands, not as a transaction, in one round trip per node; replies in order.

        Raises RedisUnavailable when any of them could not be run, ResponseError for a mistake.
        """
        if not commands:
            return []

        async def everything(_: Redis) -> list[Any]:
            return await self._scatter(commands)

        return await self.run(everything, idempotent, deadline)

    async def _scatter(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """Send each shard its commands, all shards at once."""
        shards: dict[str, list[int]] = {}
        await self.topology.locate(key_of(commands[0]))
        for place, words in enumerate(commands):
            shards.setdefault(self.topology.shard(key_of(words)), []).append(place)
        replies: list[Any] = [None] * len(commands)

        async def shard(places: list[int]) -> None:
            some = await self._exchange([commands[i] for i in places])
            for place, reply in zip(places, some, strict=True):
                replies[place] = self.commands.convert(commands[place], reply, {})

        results = await asyncio.gather(*map(shard, shards.values()), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return replies

    async def send(self, words: Sequence[Any]) -> Any:
        """Run one raw command; redis-py's methods end here."""
        return (await self._exchange([words]))[0]

    async def _exchange(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send commands of one shard, observed."""
        key = key_of(commands[0])
        if self._observer is None:
            return await self._guarded(key, commands)
        seen = self._observer.begin(name_of(commands), len(commands))
        error: BaseException | None = None
        try:
            return await self._guarded(key, commands)
        except BaseException as failure:
            error = failure
            raise
        finally:
            seen.end(self.topology.current(key), error)

    async def _guarded(self, key: Key, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send commands of one shard; the breaker guards and learns."""
        self._start()
        breaker = self._breaker(key)
        await breaker.check()
        started = time.monotonic()
        try:
            replies = await self._wires.exchange(key, commands)
            if any(isinstance(reply, AskError) for reply in replies):
                replies = await self._followed(key, commands, replies)
            replies = self._checked(replies)
        except RedisUnavailable as error:
            self._failed(breaker, error)
            raise
        except asyncio.CancelledError:  # a deadline: does the node hang, or was it just busy?
            if breaker.last_success < started and time.monotonic() - started > SILENT_S:
                breaker.open("no answer in time")
            raise
        self.last_success = breaker.last_success = time.monotonic()
        return replies

    async def _followed(
        self, key: Key, commands: Sequence[Sequence[Any]], replies: list[Any]
    ) -> list[Any]:
        self.topology.refresh()

        async def exchange(words: Sequence[Sequence[Argument]], at: Address) -> list[Any]:
            return await self._wires.exchange(key, words, at)

        return await follow(exchange, commands, replies)

    def _checked(self, replies: list[Any]) -> list[Any]:
        for reply in replies:
            if isinstance(reply, AskError):  # MOVED or ASK: the slot is elsewhere
                self.topology.refresh()
            if isinstance(reply, Exception):
                raise translate(reply) or reply
        return replies

    def _failed(self, breaker: Breaker, error: RedisUnavailable) -> None:
        if isinstance(error, RedisDenied) and error.forbidden:
            self._tell_forbidden(error.reason)
            return  # one command is forbidden; the server serves the others
        self.topology.refresh()
        breaker.open(error.reason)

    def _tell_forbidden(self, reason: str) -> None:
        if reason not in self._forbidden:  # not once per call
            self._forbidden.add(reason)
            log.error("%s", reason)

    def _breaker(self, key: Key) -> Breaker:
        """Return the breaker of the key's shard."""
        shard = self.topology.shard(key)
        if shard not in self._breakers:
            self._breakers[shard] = Breaker(
                lambda: self._probe(key, shard), self.topology.dial.reconnect_delay
            )
        return self._breakers[shard]

    async def _probe(self, key: Key, shard: str) -> None:
        """Ask the key's primary for a sign of life; raises RedisUnavailable."""
        self.topology.refresh()
        try:
            async with Deadline(PROBE_TIMEOUT_S):
                self._checked(await self._wires.exchange(key, [("PING",)]))
        except TimeoutError:
            raise RedisUnavailable(f"{shard}: no answer within {PROBE_TIMEOUT_S:g} s") from None
        except ResponseError as error:
            raise RedisUnavailable(f"{shard}: {error}") from error

    def _moved(self) -> None:
        self._wires.moved()

    def _start(self) -> None:
        if self._trimming is None:
            self._trimming = asyncio.create_task(self._trim(), name="redis pool")

    async def _trim(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            self._wires.trim(time.monotonic())

    async def close(self) -> None:
        """Close every connection; the topology stays (its owner closes it)."""
        self._forget()
        if self._trimming:
            self._trimming.cancel()
            await asyncio.gather(self._trimming, return_exceptions=True)
        for breaker in self._breakers.values():
            await breaker.close()
        self._wires.close()
