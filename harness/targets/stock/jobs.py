"""Work in threads, with a blocking client: a queue of jobs that each thread waits for.

`STOCK_JOB_THREADS` says how many threads; by default there are none.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Any

from redis.exceptions import RedisError

from harness.targets.stock.clients import make_blocking_client

THREADS = int(os.environ.get("STOCK_JOB_THREADS", "0"))
QUEUE = "jobs"
WAIT_S = 1  # then the connection goes back to the pool, and a new wait begins
PAUSE_S = 1.0

client: Any = make_blocking_client() if THREADS else None
log = logging.getLogger(__name__)


def start() -> None:
    """Start the threads; they end with the process."""
    for _ in range(THREADS):
        threading.Thread(target=_work, daemon=True).start()


def _work() -> None:
    while True:
        try:
            job = client.blpop(QUEUE, timeout=WAIT_S)
        except RedisError as error:
            log.warning("no job: %s", error)
            time.sleep(PAUSE_S)
        else:
            if job:
                log.info("signed out: %s", job[1])
