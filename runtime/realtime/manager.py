"""Socket.IO across workers: local delivery at once, the others through the event log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from engineio import packet as engine_packet
from socketio.async_manager import AsyncManager
from socketio.async_pubsub_manager import AsyncPubSubManager

from runtime.realtime import codec
from runtime.redis.eventlog import EventLog
from runtime.redis.inbox import Gap
from runtime.redis.keys import Keys
from runtime.redis.topology import Topology
from runtime.telemetry import spans

log = logging.getLogger(__name__)

NAMESPACE = "/"
TRACED = b"t"  # then the W3C traceparent of who sent it, then the message itself
PARENT_LENGTH = 55
EVENT = "2"  # a Socket.IO EVENT packet of the default namespace begins with it
RECEIVED = {"messaging.system": "redis", "messaging.operation.type": "receive"}
RESYNC = {"data": {"type": "resync"}}
Control = Callable[[dict[str, Any]], Awaitable[None]]


class LocalDelivery:
    """Sends an encoded packet to the sockets of this worker without a task per socket."""

    rooms: dict[str, Any]
    server: Any

    def in_room(self, room: str) -> list[tuple[str, str]]:
        """Return (sid, engine sid) of the sockets here; the empty room is everybody."""
        members = self.rooms.get(NAMESPACE, {}).get(room or None)
        return list(members.items()) if members else []

    def send_local(self, room: str, text: str, skip_sid: str | None = None) -> None:
        """Queue the packet for every socket of the room but one; never waits.

        Engine.IO's own monitor finds dead sockets, so no ping is checked here.
        """
        packet = None
        for sid, engine_sid in self.in_room(room):
            socket = self.server.eio.sockets.get(engine_sid)
            if socket is None or socket.closed or sid == skip_sid:
                continue
            packet = packet or engine_packet.Packet(engine_packet.MESSAGE, text)
            socket.queue.put_nowait(packet)


def encode_event(event: str, payload: Any) -> str:
    """Return the Socket.IO packet of an event with one argument."""
    return EVENT + codec.dumps([event, payload])


def worker_room(instance: str) -> str:
    """Return the room that a worker itself is in; no socket can join it."""
    return f"worker:{instance}"


def with_parent(payload: bytes) -> bytes:
    """Return the message with the sender's span in front, if that is sampled."""
    parent = spans.traceparent()
    return TRACED + parent.encode() + payload if parent else payload


class MemoryManager(LocalDelivery, AsyncManager):  # type: ignore[misc]  # shipped without types
    """One worker, no Redis."""

    caught_up = True

    def emit_now(self, event: str, payload: Any, room: str, skip_sid: str | None = None) -> None:
        """Deliver to the room."""
        self.send_local(room, encode_event(event, payload), skip_sid)

    async def start(self) -> None:
        """Nothing runs in the background."""

    async def stop(self) -> None:
        """Nothing to end."""

    async def control(self, message: dict[str, Any], to: str = "") -> None:
        """Nobody else to tell."""

    def on_control(self, handler: Control) -> None:
        """Nobody else tells anything."""

    def status(self) -> dict[str, Any]:
        """Return what /ready tells."""
        return {"caught_up": True, "kind": "memory"}


class StreamsManager(LocalDelivery, AsyncPubSubManager):  # type: ignore[misc]  # untyped
    """Workers share events through an EventLog, which survives failovers without loss.

    Events to one room travel as encoded packets: receivers without a member drop them unread,
    the others forward them without parsing. Anything else travels as JSON.
    """

    name = "streams"

    def __init__(self, topology: Topology, keys: Keys, instance: str, length: int = 50_000) -> None:
        super().__init__(channel=keys.events)
        self.events = EventLog(
            topology,
            keys,
            instance,
            deliver=self._deliver,
            wants=self._wants,
            on_gap=self._on_gap,
            length=length,
        )
        self._own_room = worker_room(instance)
        self._controls: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._control_task: asyncio.Task[None] | None = None
        self._control: Control | None = None
        self.resync_hints = 0

    def initialize(self) -> None:
        """Skip the base class's listening task: `start` listens, before the first client."""
        AsyncManager.initialize(self)

    async def start(self) -> None:
        """Begin to hear the other workers; does not wait for Redis."""
        self._control_task = asyncio.create_task(self._run_controls(), name="socket controls")
        self.events.start()

    async def stop(self) -> None:
        """Hand over what is still unsent (≤ 1 s) and close the connections."""
        await self.events.stop()
        if self._control_task:
            self._control_task.cancel()
            await asyncio.gather(self._control_task, return_exceptions=True)

    @property
    def caught_up(self) -> bool:
        """Whether this worker hears the others and is heard."""
        return self.events.caught_up

    def status(self) -> dict[str, Any]:
        """Return what /ready tells."""
        return {"kind": "streams", "resync_hints": self.resync_hints, **self.events.status()}

    # --- sending ---------------------------------------------------------------------------

    def emit_now(self, event: str, payload: Any, room: str, skip_sid: str | None = None) -> None:
        """Deliver to the room on every worker but for one local socket; never waits for Redis."""
        text = encode_event(event, payload)
        self.send_local(room, text, skip_sid)
        self.events.publish(room, with_parent(text.encode()))

    async def control(self, message: dict[str, Any], to: str = "") -> None:
        """Tell the other workers, or one instance, what is no event; see `on_control`."""
        data = {"method": "control", "message": message, "host_id": self.host_id}
        payload = with_parent(codec.dumps(data).encode())
        self.events.publish(worker_room(to) if to else "", payload)

    def on_control(self, handler: Control) -> None:
        """Set who handles what other workers tell."""
        self._control = handler

    async def _publish(self, data: dict[str, Any]) -> None:
        """Take over from the base class: append to the log."""
        room = data.get("room")
        routed = data["method"] == "emit" and data.get("namespace") == NAMESPACE
        payload = orjson.dumps(data, option=orjson.OPT_NON_STR_KEYS)
        to = room if routed and isinstance(room, str) else ""
        self.events.publish(to, with_parent(payload))

    # --- receiving -------------------------------------------------------------------------

    def _wants(self, room: str) -> bool:
        return not room or room == self._own_room or room in self.rooms.get(NAMESPACE, ())

    def _deliver(self, room: str, payload: bytes) -> None:
        if not payload.startswith(TRACED):
            self._deliver_plain(room, payload)
            return
        parent, plain = payload[1 : 1 + PARENT_LENGTH], payload[1 + PARENT_LENGTH :]
        with spans.continued("events receive", parent.decode(), RECEIVED):
            self._deliver_plain(room, plain)

    def _deliver_plain(self, room: str, payload: bytes) -> None:
        if payload.startswith(EVENT.encode()):
            self.send_local(room, payload.decode())
        else:
            self._controls.put_nowait(orjson.loads(payload))

    def _on_gap(self, gap: Gap) -> None:
        """Tell the sockets here that events were lost for good."""
        log.warning("lost events %d to %d of %s", gap.first, gap.last, gap.origin.decode())
        self.resync_hints += 1
        self.send_local("", encode_event("events", RESYNC))

    async def _run_controls(self) -> None:
        """Handle what needs a coroutine, in order."""
        while True:
            message = await self._controls.get()
            try:
                await self._handle(message)
            except Exception:  # one bad message must not end the loop
                log.exception("message from another worker: %s", message.get("method"))

    async def _handle(self, message: dict[str, Any]) -> None:
        method = str(message.get("method"))
        if method == "control":
            if self._control:
                await self._control(message["message"])
        elif method in (
            *("emit", "callback", "disconnect"),
            *("enter_room", "leave_room"),
        ):
            await getattr(self, f"_handle_{method}")(message)
