"""Opening the database, as all workers of a deployment do at once."""

from __future__ import annotations

import multiprocessing
import sqlite3
from multiprocessing.synchronize import Barrier
from pathlib import Path

from runtime.storage.engine import prepare_sqlite

WORKERS, ROUNDS = 3, 40


def open_at_once(folder: str, barrier: Barrier) -> None:
    """Open file after file, each at the same moment as the others."""
    for number in range(ROUNDS):
        barrier.wait(5)
        connection = sqlite3.connect(f"{folder}/{number}.db")
        prepare_sqlite(connection, None)
        connection.close()


def test_workers_may_open_a_new_sqlite_file_at_once(tmp_path: Path) -> None:
    """Without the retry about one open in eight fails with `database is locked`."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(WORKERS)
    arguments = (str(tmp_path), barrier)
    workers = [context.Process(target=open_at_once, args=arguments) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0] * WORKERS
