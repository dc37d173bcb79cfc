"""A worker whose log nobody reads serves on: writing a log line never waits for the reader."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from harness.waiting import wait_for
from tests.integration.app_deployment import PASSWORD, PORT, SECRET, SUBNET

HOST = f"{SUBNET}.50"
URL = f"http://{HOST}:{PORT}"
PAGE = 4096


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Yield both ends of a pipe that is full."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PAGE)
    os.write(writer, b"\n" * PAGE)
    yield reader, writer
    for end in (reader, writer):
        os.close(end)


@pytest.fixture
async def worker(
    tmp_path: Path, pipe: tuple[int, int]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Yield a worker that logs all it can into the full pipe."""
    environment = {
        **os.environ,
        "WEBUI_SECRET_KEY": SECRET,
        "DATABASE_URL": f"sqlite:///{tmp_path}/runtime.db",
        "GLOBAL_LOG_LEVEL": "DEBUG",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "runtime", "serve", "--host", HOST),
        env=environment,
        stdout=pipe[1],
        stderr=pipe[1],
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_worker_serves_and_ends_while_its_log_is_stuck(
    worker: asyncio.subprocess.Process, pipe: tuple[int, int]
) -> None:
    """It becomes ready, answers, drains and ends in order; then its first lines can be read."""
    async with aiohttp.ClientSession() as http:

        async def ready() -> bool:
            async with http.get(f"{URL}/ready") as answer:
                return answer.status == 200

        await wait_for(ready, 40, "the worker is ready")
        body = {"name": "a", "email": "a@app.example", "password": PASSWORD}
        async with http.post(f"{URL}/api/v1/auths/signup", json=body) as answer:
            assert answer.status == 200
    worker.terminate()
    assert await asyncio.wait_for(worker.wait(), 30) == 0
    assert os.read(pipe[0], 2 * PAGE).strip() == b""  # not one line had room
