"""Faults on PostgreSQL: stopped and started again, hanging, without a connection left."""

from __future__ import annotations

import asyncio
import signal
from typing import ClassVar

import psutil
import psycopg

from harness.clock import monotonic
from harness.deploy.model import Database, Process
from harness.deploy.postgres import launch
from harness.errors import UserError
from harness.faults.base import Aim, Fault, FaultError
from harness.faults.proofs import (
    STATE_S,
    Listener,
    expect,
    expect_stopped,
    proof_of_silence,
    turns_away,
)
from harness.waiting import WaitTimeout

NO_DATABASE = "needs a database server of the run: the scenario says no `database: postgresql`"
NAME = "the database"
END_S = 10.0  # an orderly stop writes what is in memory first
ANSWER_S = 5.0
CONNECT_S = 3
TAKE_S = 15.0
AT_ONCE = 10  # a server forks for each connection
HELLO = bytes.fromhex("0000000804d2162f")  # may I speak TLS? Every server answers S or N
OTHERS = """
    SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND NOT pid = ANY(%s)
"""

TERMINATE = "SELECT pg_terminate_backend(pid) FROM unnest(%s) pid"

Connection = psycopg.AsyncConnection[tuple[object, ...]]


class DatabaseFault(Fault):
    """A fault on the run's own PostgreSQL server."""

    @property
    def server(self) -> Database:
        """Return the server; raise FaultError when there is none."""
        if self.deployment.database is None:
            raise FaultError(NO_DATABASE)
        return self.deployment.database

    @property
    def process(self) -> Process:
        """Return its first process, which starts one more for each connection."""
        if (process := self.server.process) is None:
            raise FaultError("the database has no process of ours to act on")
        return process

    def available(self) -> str | None:
        """Return why it cannot run: SQLite is no process to act on."""
        return NO_DATABASE if self.deployment.database is None else None

    async def aim(self) -> Aim:
        """Aim at no node and no worker: there is one database."""
        return Aim()

    async def confirm_heal(self) -> str:
        """Prove it by a query on a new connection."""
        began = monotonic()
        await expect(self._answers, ANSWER_S, f"{NAME} answers a query")
        return f"{NAME} answers a query again after {monotonic() - began:.2f} s"

    async def _answers(self) -> bool:
        connection = await connect(self.server)
        async with connection:
            return await (await connection.execute("SELECT 1")).fetchone() == (1,)


class DatabaseRestart(DatabaseFault):
    """SIGINT, its fast stop: connections are closed, transactions rolled back; then started."""

    kind: ClassVar[str] = "database-restart"

    async def inject(self) -> None:
        """Ask it to stop."""
        self._stopped, self._asked = self.process, monotonic()
        self.context.expect_exit(self._stopped)
        self._stopped.signal(signal.SIGINT)

    async def confirm(self) -> str:
        """Prove it by the end of its process and a refused connection."""
        try:
            status = await self._stopped.wait(END_S)
        except WaitTimeout as error:
            raise FaultError(str(error)) from error
        took, how = monotonic() - self._asked, await turns_away(NAME, self.server.address)
        pid = self._stopped.pid
        return f"postgres (pid {pid}) ended with status {status} after {took:.2f} s and {how}"

    async def heal(self) -> None:
        """Start it on its data; returns when it answers."""
        if self.process.exit_status is None:
            return
        try:
            await launch(self.context.guardian, self.server)
        except UserError as error:
            raise FaultError(str(error)) from error


class DatabasePause(DatabaseFault):
    """SIGSTOP of its first process, so that no new one comes, then of all others."""

    kind: ClassVar[str] = "database-pause"

    async def inject(self) -> None:
        """Stop them all."""
        self._others: list[psutil.Process] = []
        await stop_first(self.process)
        self._others = psutil.Process(self.process.pid).children(recursive=True)
        _send(signal.SIGSTOP, self._others)

    async def confirm(self) -> str:
        """Prove it by the state of every process, and a greeting that nobody answers."""
        words, answer = HELLO, "answer to a new connection"
        listener = Listener("postgres", self.process, self.server.address, None, words, answer)
        silence = await proof_of_silence(listener)
        await expect(self._all_stopped, STATE_S, "all processes of postgres are stopped")
        return f"{silence}; so are its {len(self._others)} other processes"

    def _all_stopped(self) -> bool:
        return all(each.status() == psutil.STATUS_STOPPED for each in self._others)

    async def heal(self) -> None:
        """Continue them all."""
        _send(signal.SIGCONT, self._others)
        self.process.signal(signal.SIGCONT)


class DatabaseExhausted(DatabaseFault):
    """Connections are taken until the server refuses one, and kept; healed by closing them."""

    kind: ClassVar[str] = "database-exhausted"

    async def inject(self) -> None:
        """Take what is left; with `evict`, what the workers have as well."""
        self._taken: list[Connection] = []
        self._refusal, self._evicted = "", 0
        await expect(self._take_all, TAKE_S, f"{NAME} has no connection left")
        if self.spec["evict"]:
            await expect(self._take_over, TAKE_S, "no connection is another's")

    async def _take_all(self) -> bool:
        """Open connections until one is refused; tell whether one was."""
        tries = await asyncio.gather(*(self._take() for _ in range(AT_ONCE)))
        return not all(tries)

    async def _take(self) -> bool:
        try:
            self._taken.append(await connect(self.server))
        except psycopg.OperationalError as error:
            self._refusal = " ".join(str(error).split())
            return False
        return True

    async def _take_over(self) -> bool:
        """Close connections of others and open ours; tell whether none is another's.

        Workers ask again at once. So ours stand in the kernel's line before theirs can: the
        server's first process, which takes them from it, is stopped meanwhile. Whoever stood
        there earlier is closed in the next round.
        """
        first, ours = self._taken[0], [each.info.backend_pid for each in self._taken]
        rows = await (await first.execute(OTHERS, (ours,))).fetchall()
        if not rows:
            return True
        await stop_first(self.process)
        try:
            taking = [asyncio.create_task(self._take()) for _ in range(len(rows) + AT_ONCE)]
            await expect(lambda: self._in_line(len(ours) + len(taking)), STATE_S, "ours wait")
            await first.execute(TERMINATE, ([row[0] for row in rows],))
        finally:
            self.process.signal(signal.SIGCONT)
        self._evicted += len(rows)
        await asyncio.gather(*taking)
        return False

    def _in_line(self, least: int) -> bool:
        """Tell whether so many connections of this process lead to the server."""
        mine = psutil.Process().net_connections("tcp")
        return sum(c.raddr == self.server.address for c in mine) >= least

    async def confirm(self) -> str:
        """Prove it by the server's own words to one connection more."""
        if await self._take():
            raise FaultError(f"{NAME} took another connection after {len(self._taken) - 1}")
        if "too many clients" not in self._refusal and "slots are reserved" not in self._refusal:
            raise FaultError(f"{NAME} refused for another reason: {self._refusal}")
        evicted = f", {self._evicted} of the workers closed" if self.spec["evict"] else ""
        taken = f"{len(self._taken)} of {self.server.connections} connections taken{evicted}"
        return f"{taken}; the next one: {self._refusal}"

    async def heal(self) -> None:
        """Close them."""
        taken, self._taken = self._taken, []
        await asyncio.gather(*(each.close() for each in taken))


async def stop_first(process: Process) -> None:
    """Stop the process that takes new connections; those that are open go on."""
    process.signal(signal.SIGSTOP)
    await expect_stopped(process, f"postgres (pid {process.pid})")


async def connect(server: Database) -> Connection:
    """Return a connection of the harness's own; raise psycopg.OperationalError."""
    return await psycopg.AsyncConnection.connect(
        server.url, autocommit=True, connect_timeout=CONNECT_S, application_name="harness"
    )


def _send(number: int, processes: list[psutil.Process]) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue  # a connection that was just closed
