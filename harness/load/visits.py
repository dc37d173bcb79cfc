"""Step `visit`: a guest comes with a socket, uses a model, and goes; then everybody is asked."""

from __future__ import annotations

import gevent
from gevent.event import Event

from harness.history.errors import classify
from harness.history.records import OK
from harness.load.accounts import Account
from harness.load.context import LoadContext
from harness.load.operations import Operations
from harness.load.socketio_client import SocketClient
from harness.plan import Step
from harness.targets.base import PRESENCE, SOCKET_PATH
from harness.vocabulary import default_bounds

STAY_S = 2.0
SEEN_AFTER_S = 1.0  # by then the guest is shown as online
ASK_EVERY_S = 1.0
LONGER_S = 6.0  # than the bound, for guests whom a fault sent away


class Visits:
    """Guests have accounts of their own, so nobody else's socket makes them look online."""

    def __init__(self, context: LoadContext, operations: Operations) -> None:
        self._context = context
        self._operations = operations
        bounds = default_bounds() | context.scenario.bounds
        self._patience_s = bounds["presence_gone_s"] + LONGER_S

    def perform(self, step: Step, due: float) -> None:
        """Do the whole step: one visit, and looks until nothing of it is left."""
        context = self._context
        if PRESENCE not in context.setup.capabilities:
            return
        guest = context.accounts.guests[step.k]
        worker = context.choices(f"visit-{step.k}").below(context.workers)
        if self._visit(guest, worker, due):
            workers = range(context.workers)
            looks = [gevent.spawn(self._look_until_gone, guest, asked) for asked in workers]
            gevent.joinall(looks, raise_error=True)

    def _visit(self, guest: Account, worker: int, due: float) -> bool:
        """Stay for a while, or until the socket is lost; tell whether the guest had come in."""
        writer, gone = self._context.writer, Event()
        args = {"guest": guest.name, "scheduled": due}
        identity = writer.invoke("visit", worker=worker, **args)
        client = self._client(guest, worker, gone)
        try:
            client.connect({"token": guest.token})
            client.call("user-join", {"auth": {"token": guest.token}})
            client.emit("usage", {"model": guest.name})
        except Exception as error:  # any failure is recorded; there is nothing to look for
            client.close()
            outcome, code = classify(error)
            writer.complete(outcome, identity, "visit", error=code, text=str(error))
            return False
        if not gone.wait(SEEN_AFTER_S):
            self._look(guest, worker)
        gone.wait(STAY_S - SEEN_AFTER_S)
        client.close()
        writer.complete(OK, identity, "visit", lost=gone.is_set())
        return True

    def _client(self, guest: Account, worker: int, gone: Event) -> SocketClient:
        entry = self._context.setup.entry
        headers = guest.headers() | entry.pin(worker)
        headers.pop("Authorization")  # browsers cannot send it with a WebSocket
        return SocketClient(
            entry.url(worker), SOCKET_PATH, headers, lambda *_: None, lambda _: gone.set()
        )

    def _look_until_gone(self, guest: Account, worker: int) -> None:
        clock = self._context.clock
        until = clock.now() + self._patience_s
        while self._look(guest, worker) and clock.now() < until:
            gevent.sleep(ASK_EVERY_S)

    def _look(self, guest: Account, worker: int) -> bool:
        """Ask a worker whether the guest is online and the model in use; tell whether either."""
        admin, args = self._context.accounts.admin, {"guest": guest.name}
        online = self._operations.do(
            "online_read",
            admin,
            worker,
            ("GET", f"/api/v1/users/{guest.id}/active", None),
            args,
            lambda body: {"online": bool(body["active"])},
        )
        used = self._operations.do(
            "usage_read",
            admin,
            worker,
            ("GET", "/api/usage", None),
            args,
            lambda body: {"in_use": guest.name in body["model_ids"]},
        )
        return (
            not (online.ok and used.ok)
            or bool(online.body["active"])
            or guest.name in used.body["model_ids"]
        )
