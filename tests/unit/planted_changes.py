"""Defects that tests plant into healthy histories."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.unit.histories import END, HEAL, KILL, SWITCH, WORKERS, History, stream

Change = Callable[[History], object]


def alive(t: float, when: str, worker: int = 1) -> Change:
    """Accept a signed-out token on a worker at `t`."""
    return lambda h: h.op("token_probe", t, token="x1", worker=worker, when=when, alive=True)


def running(name: str, stop_at: float, closed: float | None) -> Change:
    """Stop a stream at `stop_at`; the provider sees it closed at `closed`."""

    def change(h: History) -> None:
        stream(h, name, stop_at - 1, closed, cause="client_closed", sent=5)
        h.op("stop", stop_at, stream=name, by="task", outlives=True, state="requested")

    return change


def deaf(h: History) -> None:
    """Let worker 1 hear no canary for four seconds after the switch."""
    h.records = [
        r
        for r in h.records
        if not (r["k"] == "canary" and r["at"] == 1 and SWITCH < r["t"] < SWITCH + 4)
    ]


def leak(h: History) -> None:
    """Keep the connections of worker 1 up after the switch."""
    for r in h.records:
        if r.get("probe") == "worker" and r["worker"] == 1 and r["t"] > SWITCH:
            r["connections"] = 16


def last_look_burst(h: History) -> None:
    """Let the pool of worker 1 grow when the load is over, and stay so."""
    for r in h.records:
        if r.get("probe") == "worker" and r["worker"] == 1 and r["t"] > END:
            r["connections"] = 16


def connections(*quarters: int) -> Change:
    """Give worker 1 so many connections in each quarter of the load, the last for good."""

    def change(h: History) -> None:
        for r in h.records:
            if r.get("probe") == "worker" and r["worker"] == 1:
                r["connections"] = quarters[min(3, int(r["t"] / END * 4))]

    return change


def churn(per_s: int) -> Change:
    """Let the server accept so many connections a second from the middle of the load on."""

    def change(h: History) -> None:
        for r in h.records:
            if r.get("probe") == "redis" and r["t"] > HEAL + 10:
                r["received"] += int((r["t"] - HEAL - 10) * per_s)

    return change


def growth(h: History) -> None:
    """Let pools grow by three connections a second, none of them closed."""
    churn(3)(h)
    for r in h.records:
        if r.get("probe") == "redis":
            r["clients"] += r["received"] - 20


def runs(*runs: tuple[int, int], sent: int = 10) -> Change:
    """Add a stream whose tokens arrive in these runs."""
    return lambda h: stream(h, "bad", 20, 21, runs=list(runs), sent=sent)


def second_life(h: History) -> None:
    """Accept a token after it was refused."""
    h.op("token_probe", 20, token="x1", worker=0, when="after", alive=True)


def lies(state: str) -> Change:
    """Answer a stop with a state that the provider contradicts."""

    def change(h: History) -> None:
        stream(h, "lie", 20, 25)
        h.op("stop", 21, stream="lie", by="task", outlives=True, state=state)

    return change


def unlisted(h: History) -> None:
    """Leave a task out of the list while its stream runs."""
    stream(h, "hidden", 20, 30)
    h.op("list_tasks", 25, stream="hidden", tasks_now=[])


def storm(h: History) -> None:
    """Worker 1 writes 100 kB/s from the kill to the heal."""
    for r in h.records:
        if r.get("probe") == "worker" and r["worker"] == 1:
            r["log"] += int(100_000 * (min(max(r["t"], KILL), HEAL) - KILL))


def shows(value: int | None, t: float) -> Change:
    """Show this setting on worker 1 at `t`."""
    return lambda h: h.op("config_read", t, value=value, worker=1)


def changed_in_the_fault(h: History) -> None:
    """Worker 1 has a change that the fault met a second after the heal, in its time."""
    h.op("config_write", KILL + 1, value=7).op("config_read", HEAL + 1, value=-1, worker=1)


def undecided_change(h: History) -> None:
    """Leave a change unanswered: it may be seen at any time."""
    h.op("config_write", 5, value=9, outcome="info").op("config_read", 35, value=9, worker=1)


TWICE: dict[str, Any] = {"version": 2, "versions": {"2": 20}, "models": 21}


def lists(versions: dict[str, int], t: float) -> Change:
    """List models of these versions on worker 1 at `t`."""
    fields = {"versions": versions, "models": 1 + sum(versions.values()), "worker": 1}
    return lambda h: h.op("models_read", t, **fields)


def ready_no(h: History) -> None:
    """Have a worker say at 30 s that it is not ready."""
    h.add("sample", 30, probe="health", worker=0, path="/ready", status=503, ms=2.0, sent=30.0)


def health(status: int, ms: float) -> Change:
    """Answer `/health` of worker 0 so at 12 s."""
    fields = {"worker": 0, "path": "/health", "status": status, "ms": ms, "sent": 12.0}
    return lambda h: h.add("sample", 12, probe="health", **fields)


def socket_lost(t: float, back: float | None, workers: list[int] | None = None) -> Change:
    """Lose the user's socket; `workers` are those whose sockets the fault closes, [] means all."""

    def change(h: History) -> None:
        for record in h.records:
            if record["k"] == "fault":
                record |= {"closes_sockets": workers is not None, "workers": workers or []}
        h.add("socket", t, socket="u0-0", event="lost", reason="closed by the server")
        if back is not None:
            h.op("connect", back, socket="u0-1", user=0)

    return change


def tab_lost(h: History) -> None:
    """Lose a further tab of the user, who never opens it again, while another one comes back."""
    socket_lost(12, 13, workers=[])(h)
    h.op("connect", 0.2, socket="tab7-0", user=0)
    h.add("socket", 12, socket="tab7-0", event="lost", reason="closed by the server")


def told_in_a_tab(h: History) -> None:
    """Tell the end of an answer to a further tab only."""
    h.without(k="end")
    h.op("connect", 0.2, socket="tab7-0", user=0)
    for record in [r for r in h.records if r["k"] == "stream" and r["event"] == "close"]:
        h.add("end", record["t"], stream=record["stream"], socket="tab7-0", event="done")


def lost_at_the_end(h: History) -> None:
    """Close sockets by a fault that lasts to the end, so that nobody can be back before it."""
    socket_lost(42, None, workers=[])(h)
    h.without(k="fault", event="heal")


def empty_lists(h: History) -> None:
    """No list of all tasks holds any."""
    h.without(op="list_all_tasks")
    for worker in range(WORKERS):
        h.op("list_all_tasks", 5, worker=worker, tasks_now=[])
