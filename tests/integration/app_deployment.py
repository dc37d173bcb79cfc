"""Two runtime workers, a Redis server and a small provider: the parts that app tests share."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import socketio
from aiohttp import web

from harness.deploy.lease import Lease
from harness.waiting import wait_for

LEASE = Lease.acquire()  # held as long as the tests run
SUBNET = LEASE.subnet
REDIS = f"{SUBNET}.10"
PORT = 8080
SECRET = "0123456789abcdef0123456789abcdef"
PASSWORD = "correct horse"


class Provider:
    """Streams `t0 t1 …` at 20 tokens/s; `open` holds the names of streams that run.

    Lists `models` once it `may_list` and unless `failing`; `listed` has every call's headers.
    """

    def __init__(self) -> None:
        self.open: set[str] = set()
        self.closed: dict[str, int] = {}
        self.asked: dict[str, tuple[str, str]] = {}  # stream → first part of the path, model
        self.models = ["m"]
        self.listed: list[dict[str, str]] = []  # the headers of each call
        self.failing: set[str] = set()  # first parts of paths, empty for /v1
        self.garbled: set[str] = set()  # streams that get a page instead
        self.may_list = asyncio.Event()
        self.may_list.set()
        self._runner: web.AppRunner | None = None
        self._next_close: asyncio.Future[str] | None = None

    async def next_close(self) -> str:
        """Return the name of the next stream that ends, as soon as it does."""
        self._next_close = asyncio.get_running_loop().create_future()
        return await self._next_close

    async def start(self) -> None:
        """Listen."""
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_post("/{prefix}/v1/chat/completions", self._complete)
        app.router.add_get("/v1/models", self._list)
        app.router.add_get("/{prefix}/v1/models", self._list)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, f"{SUBNET}.3", 9000).start()

    async def stop(self) -> None:
        """Stop to listen."""
        if self._runner:
            await self._runner.cleanup()

    async def _list(self, request: web.Request) -> web.Response:
        self.listed.append(dict(request.headers))
        await self.may_list.wait()
        prefix = request.match_info.get("prefix", "")
        if prefix in self.failing:
            return web.Response(status=500)
        user = request.headers.get("X-OpenWebUI-User-Id", "")
        return web.json_response(
            {"data": [{"id": f"{prefix}{model}{user}"} for model in self.models]}
        )

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        name, tokens = body["messages"][-1]["content"].split()
        self.asked[name] = (request.match_info.get("prefix", ""), body["model"])
        if name in self.garbled:
            self.closed[name] = 0
            page = {"Content-Type": "text/html; charset=utf-8"}
            return web.Response(status=502, body=b"Pas trouv\xe9", headers=page)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        self.open.add(name)
        sent = 0
        try:
            for sent in range(int(tokens)):
                chunk = f'{{"choices":[{{"delta":{{"content":"t{sent} "}}}}]}}'
                await response.write(f"data: {chunk}\n\n".encode())
                await asyncio.sleep(0.05)
            await response.write(b"data: [DONE]\n\n")
        finally:
            self.open.discard(name)
            self.closed[name] = sent
            if self._next_close is not None and not self._next_close.done():
                self._next_close.set_result(name)
        return response


class Program:
    """A subprocess with its log."""

    def __init__(self, argv: list[str], env: dict[str, str], log: Path) -> None:
        self._argv, self._env, self.log = argv, env, log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it."""
        with self.log.open("ab") as out:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv, env={**os.environ, **self._env}, stdout=out, stderr=out
            )

    def add_arguments(self, *words: str) -> None:
        """Add words to the command of the next start."""
        self._argv += words

    def signal(self, number: int) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    @property
    def ended(self) -> str:
        """Return its exit code and the end of its log once it ended by itself, else nothing."""
        if self._process is None or self._process.returncode is None:
            return ""
        return f"ended with {self._process.returncode}:\n{self.log.read_text()[-2000:]}"

    async def stop(self, kill: bool = False) -> int:
        """End it and return its exit code."""
        process = self._process
        if process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            process.kill() if kill else process.terminate()
        return await asyncio.wait_for(process.wait(), 15)


def _environment(folder: Path, with_redis: bool) -> dict[str, str]:
    """Return what every worker is told."""
    return {
        "WEBUI_SECRET_KEY": SECRET,
        "DATABASE_URL": f"sqlite:///{folder}/runtime.db",
        "OPENAI_API_BASE_URL": f"http://{SUBNET}.3:9000/v1",
        "ARGON2_TIME_COST": "1",
        "ARGON2_MEMORY_KIB": "1024",
        "ENABLE_STAR_SESSIONS_MIDDLEWARE": "true",
        "REDIS_URL": f"redis://{REDIS}:6379/0" if with_redis else "",
    }


class Deployment:
    """Everything; `async with deployment(...)` starts and ends it."""

    def __init__(
        self,
        folder: Path,
        with_redis: bool = True,
        workers: int = 2,
        environ: dict[str, str] | None = None,
        environs: Sequence[dict[str, str]] = (),
    ) -> None:
        """Run a Redis of our own, or none; `environ` is added to the workers' environment.

        `environs` says what each worker has otherwise than the others.
        """
        self.folder = folder
        self.provider = Provider()
        redis = ["redis-server", "--bind", REDIS, "--port", "6379", "--save", "", "--dir"]
        self.redis = Program([*redis, str(folder)], {}, folder / "redis.log")
        self.with_redis = with_redis
        env = {**_environment(folder, with_redis), **(environ or {})}
        self.urls = [f"http://{SUBNET}.{50 + n}:{PORT}" for n in range(workers)]
        self.workers = [
            Program(
                [sys.executable, "-m", "runtime", "serve", "--host", f"{SUBNET}.{50 + n}"],
                {**env, "INSTANCE_ID": f"w{n}", **(environs[n] if environs else {})},
                folder / f"w{n}.log",
            )
            for n in range(workers)
        ]
        self.http: aiohttp.ClientSession

    async def start(self) -> None:
        """Start everything; return when all workers are ready."""
        self.http = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        await self.provider.start()
        if self.with_redis:
            await self.redis.start()
        for worker in self.workers:
            await worker.start()
        await self.ready()

    async def ready(self) -> None:
        """Wait until every worker says that it is ready."""
        for url, worker in zip(self.urls, self.workers, strict=True):
            label = f"{url} ready"
            ended = await wait_for(lambda u=url, w=worker: self._ready_or_ended(u, w), 40, label)
            assert ended == "ready", ended

    async def _ready_or_ended(self, url: str, worker: Program) -> str:
        return worker.ended or ("ready" if await self._is_ready(url) else "")

    async def _is_ready(self, url: str) -> bool:
        async with self.http.get(f"{url}/ready") as answer:
            if answer.status != 200:
                raise RuntimeError(await answer.text())
            return True

    async def stop(self) -> None:
        """End everything."""
        await asyncio.gather(*(worker.stop() for worker in self.workers))
        if self.with_redis:
            await self.redis.stop()
        await self.provider.stop()
        await self.http.close()

    async def restart_redis_empty(self, while_down: Callable[[], Any] | None = None) -> None:
        """Kill Redis and start it without its data; call something in between."""
        await self.redis.stop(kill=True)
        if while_down is not None:
            await while_down()
        await self.redis.start()

    async def user(self, worker: int = 0) -> User:
        """Return a new user, signed in."""
        name = uuid.uuid4().hex[:8]
        body = {"name": name, "email": f"{name}@app.example", "password": PASSWORD}
        user = User(self, "", body["email"])
        status, answer = await user.call("POST", "/api/v1/auths/signup", worker, body)
        assert status == 200, answer
        user.token, user.id = answer["token"], answer["id"]
        return user


class User:
    """A signed-in user: HTTP calls to any worker, sockets on any worker."""

    def __init__(self, deployment: Deployment, token: str, email: str) -> None:
        self.deployment, self.token, self.email = deployment, token, email
        self.id = ""
        self.cookie = ""
        self.events: list[dict[str, Any]] = []
        self._sockets: list[socketio.AsyncClient] = []

    async def call(
        self, method: str, path: str, worker: int = 0, body: Any = None
    ) -> tuple[int, dict[str, Any]]:
        """Return status and JSON body."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if self.cookie:
            headers["Cookie"] = self.cookie
        url = self.deployment.urls[worker] + path
        async with self.deployment.http.request(method, url, json=body, headers=headers) as answer:
            for name, morsel in answer.cookies.items():
                if name == "owui-session":
                    self.cookie = f"{name}={morsel.value}" if morsel.value else ""
            return answer.status, await answer.json()

    async def connect(self, worker: int) -> socketio.AsyncClient:
        """Open a socket and join; its events go to `events`."""
        client = socketio.AsyncClient(reconnection=False, handle_sigint=False)
        client.on("events", self.events.append)
        await client.connect(
            self.deployment.urls[worker],
            auth={"token": self.token},
            transports=["websocket"],
            socketio_path="/ws/socket.io",
        )
        joined = await client.call("user-join", {"auth": {"token": self.token}}, timeout=3)
        assert joined["id"] == self.id
        self._sockets.append(client)
        return client

    async def chat(
        self, stream: str, worker: int, tokens: int = 400, model: str = "m"
    ) -> tuple[str, str]:
        """Start an answer; return chat and task id once the provider streams."""
        body = {
            "model": model,
            "stream": True,
            "messages": [{"role": "user", "content": f"{stream} {tokens}"}],
            "id": str(uuid.uuid4()),
        }
        status, answer = await self.call("POST", "/api/chat/completions", worker, body)
        assert status == 200, answer
        provider = self.deployment.provider
        await wait_for(lambda: stream in provider.open or stream in provider.closed, 3, stream)
        return answer["chat_id"], answer["task_ids"][0]

    async def chat_and_stop(self) -> None:
        """Stream from worker 0 to a socket on worker 1, and stop it from there."""
        stream = uuid.uuid4().hex[:8]
        _, task = await self.chat(stream, 0)
        await wait_for(lambda: "t3 " in self.text(), 8, "tokens from the other worker")
        status, answer = await self.call("POST", f"/api/tasks/stop/{task}", 1)
        assert status == 200, answer
        closed = self.deployment.provider.closed
        await wait_for(lambda: stream in closed, 8, "the stream is closed")

    def text(self) -> str:
        """Return the text that the sockets received, in order."""
        inner = [e["data"]["data"] for e in self.events if e["data"]["type"].startswith("response")]
        return "".join(data["delta"] for data in inner)

    def kinds(self) -> list[str]:
        """Return the types of the events received."""
        return [event["data"]["type"] for event in self.events]

    async def leave(self) -> None:
        """Close all sockets."""
        for client in self._sockets:
            with contextlib.suppress(Exception):
                await client.disconnect()
                await client.shutdown()


@contextlib.asynccontextmanager
async def deployment(**options: Any) -> AsyncIterator[Deployment]:
    """Run a deployment; its logs are printed when the test fails."""
    with tempfile.TemporaryDirectory() as folder:
        parts = Deployment(Path(folder), **options)
        try:
            await parts.start()
            yield parts
        except BaseException:
            for worker in parts.workers:
                print(worker.log.read_text() if worker.log.exists() else "no log")
            raise
        finally:
            await parts.stop()
