"""Planted histories with traces: two workers, and every operation's spans as they should be."""

from __future__ import annotations

from typing import Any

from tests.unit.histories import History

REDIS = "127.0.0.10:6379"
OTHER_REDIS = "127.0.0.11:6379"
Record = dict[str, Any]


class TracedHistory(History):
    """A history in which operations have traces; times in run seconds."""

    def __init__(self, fault: bool = False, **scenario: Any) -> None:
        super().__init__(fault, telemetry=True, **scenario)
        self.capabilities.append("traces")
        self.about["redis_addresses"] = [REDIS, OTHER_REDIS]

    def span(self, trace: str, name: str, t: float, **fields: Any) -> TracedHistory:
        """Add a span of 2 ms; its id is its name."""
        parent = fields.pop("parent", "")
        fields = {"kind": "internal", "worker": 0, "attributes": {}, **fields}
        self.add(
            "span", t + 0.002, t0=t, trace=trace, span=name, parent=parent, name=name, **fields
        )
        return self

    def request(self, op: str, trace: str, t: float, worker: int = 0, **fields: Any) -> None:
        """Add a traced operation and the span of its request."""
        self.op(op, t, worker=worker, trace=trace, **fields)
        self.span(trace, "request", t, kind="server", worker=worker)

    def redis(self, trace: str, t: float, worker: int = 0, **fields: Any) -> None:
        """Add the span of a command to Redis below the request's."""
        host, port = fields.pop("address", REDIS).split(":")
        attributes = {"db.system.name": "redis", "server.address": host, "server.port": int(port)}
        fields = {"parent": "request", **fields}
        self.span(trace, "GET", t, kind="client", worker=worker, attributes=attributes, **fields)

    def received(self, trace: str, t: float, worker: int, **fields: Any) -> None:
        """Add the span of a message that a worker received."""
        fields = {"parent": "request", **fields}
        self.span(trace, f"received-{worker}", t, kind="consumer", worker=worker, **fields)

    def counted(self, **counts: int) -> TracedHistory:
        """Add the collector's last sample."""
        every = {"spans": 10, "dropped": 0, "refused": 0, **counts}
        self.add("sample", 45, probe="collector", **every)
        return self


def read(h: TracedHistory, trace: str, t: float, worker: int = 0, **fields: Any) -> None:
    """Add a session read and its command."""
    h.request("session_read", trace, t, worker, session="u0", value=1)
    h.redis(trace, t, worker, **fields)


def chat(h: TracedHistory, name: str, t: float, worker: int) -> None:
    """Add a chat on a worker, whose words reach the user's socket on the other one."""
    home = 1 - worker
    h.op("connect", t - 1, socket=f"s-{name}", user=home, worker=home)
    fields = {"stream": name, "user": home, "socket": f"s-{name}", "tokens": 5}
    h.request("chat_start", f"chat-{name}", t, worker, **fields)
    h.received(f"chat-{name}", t + 0.01, home)
    h.add("run", t + 1, stream=name, socket=f"s-{name}", first=0, last=4, t0=t + 0.01)


def stop(h: TracedHistory, name: str, t: float, worker: int, state: str = "cancelled") -> None:
    """Add a stop of a chat, asked of a worker, with its command and the spans of both workers."""
    trace = f"stop-{name}"
    h.request("stop", trace, t, worker, stream=name, by="task", outlives=True, state=state)
    h.redis(trace, t, worker)
    for each in (0, 1):
        h.received(trace, t + 0.004, each)


def traced(fault: bool = False, **scenario: Any) -> TracedHistory:
    """Return a history with evidence for every guarantee about traces."""
    h = TracedHistory(fault, **scenario)
    for worker in (0, 1):
        read(h, f"read-{worker}", 20 + worker, worker)
        chat(h, f"c{worker}", 25 + worker, worker)
        stop(h, f"c{worker}", 30 + worker, 1 - worker)
    return h.counted()
