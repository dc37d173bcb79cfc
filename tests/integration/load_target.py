"""A small target for tests of the load: one process that answers as several workers.

All workers share one memory, so everything that works in it works everywhere at once. `--dead-stop`
acknowledges stops without stopping, `--deaf-sign-out` acknowledges sign-outs without doing them,
`--drop` closes every user's first socket once the user's first chat begins.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import secrets
import uuid
from typing import Any

import socketio
import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response

MARKER = re.compile(r"\[\[stream=(\S+) tokens=(\d+) rate=(\S+)\]\]")

READ_S = 0.05  # long enough that of those who hang up within 0.15 s some do before the answer


class State:
    """Everything the workers share."""

    def __init__(self, dead_stop: bool, deaf_sign_out: bool, drop: bool) -> None:
        self.dead_stop = dead_stop
        self.deaf_sign_out = deaf_sign_out
        self.first_sockets: dict[str, str] | None = {} if drop else None
        self.users: dict[str, dict[str, str]] = {}
        self.tokens: dict[str, str] = {}
        self.sessions: dict[str, dict[str, Any]] = {}
        self.tasks: dict[str, tuple[str, asyncio.Task[None]]] = {}
        self.forwarded: set[str] = set()
        self.socket = socketio.AsyncServer(async_mode="asgi", transports=["websocket"])
        self.socket.on("connect", self.connect)
        self.socket.on("user-join", self.join)

    async def connect(self, sid: str, _environ: Any, auth: dict[str, str] | None) -> None:
        """Refuse a socket without a valid token."""
        if (auth or {}).get("token") not in self.tokens:
            raise ConnectionRefusedError("no valid token")
        await self.socket.enter_room(sid, f"user:{self.tokens[auth['token']]}")
        if self.first_sockets is not None:
            self.first_sockets.setdefault(self.tokens[auth["token"]], sid)

    async def join(self, _sid: str, data: dict[str, Any]) -> dict[str, str]:
        """Acknowledge."""
        return {"id": self.tokens[data["auth"]["token"]]}

    async def tell(self, user: str, message: str, chat: str, kind: str, data: Any) -> None:
        """Send one event to a user's sockets."""
        event = {"chat_id": chat, "message_id": message, "data": {"type": kind, "data": data}}
        await self.socket.emit("events", event, room=f"user:{user}")

    async def stream(self, user: str, message: str, chat: str, marker: re.Match[str]) -> None:
        """Send numbered tokens, then the end."""
        name, count, rate = marker[1], int(marker[2]), float(marker[3])
        if sid := (self.first_sockets or {}).get(user):
            await self.socket.disconnect(sid)
        try:
            for number in range(count):
                delta = {"type": "response.output_text.delta", "delta": f"{name}:{number} "}
                await self.tell(user, message, chat, "response:completion", delta)
                await asyncio.sleep(1 / rate)
        except asyncio.CancelledError:
            await self.tell(user, message, chat, "chat:tasks:cancel", None)
        else:
            await self.tell(user, message, chat, "chat:completion", {"done": True})

    def stop(self, task: str) -> dict[str, Any]:
        """Cancel a task, unless stops are dead."""
        if not self.dead_stop and task in self.tasks:
            self.tasks[task][1].cancel()
        return {"status": True, "state": "cancelled"}


def user_of(state: State, request: Request) -> str:
    """Return the caller's user id, or answer 401."""
    state.forwarded.add(request.headers.get("x-forwarded-for", ""))
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    if token not in state.tokens:
        raise HTTPException(401, "invalid token")
    return state.tokens[token]


def make_app(state: State) -> FastAPI:
    """Return the routes of one worker."""
    app = FastAPI()
    auth_routes(app, state)
    session_routes(app, state)
    chat_routes(app, state)
    return app


def auth_routes(app: FastAPI, state: State) -> None:
    """Add accounts and tokens."""

    @app.post("/api/v1/auths/signup")
    async def sign_up(body: dict[str, str]) -> dict[str, str]:
        return sign_in_as(body)

    @app.post("/api/v1/auths/add")
    async def add(body: dict[str, str], request: Request) -> dict[str, str]:
        user_of(state, request)
        return {"id": sign_in_as(body)["id"]}

    def sign_in_as(body: dict[str, str]) -> dict[str, str]:
        user = state.users.setdefault(body["email"], {**body, "id": str(uuid.uuid4())})
        token = secrets.token_hex(16)
        state.tokens[token] = user["id"]
        return {"id": user["id"], "token": token}

    @app.post("/api/v1/auths/signin")
    async def sign_in(body: dict[str, str]) -> dict[str, str]:
        if state.users.get(body["email"], {}).get("password") != body["password"]:
            raise HTTPException(400, "wrong e-mail or password")
        return sign_in_as(body)

    @app.get("/api/v1/auths/")
    async def me(request: Request) -> dict[str, str]:
        return {"id": user_of(state, request)}

    @app.post("/api/v1/auths/signout")
    async def sign_out(request: Request) -> dict[str, bool]:
        user_of(state, request)
        if not state.deaf_sign_out:
            del state.tokens[request.headers["authorization"].removeprefix("Bearer ")]
        return {"status": True}


def session_routes(app: FastAPI, state: State) -> None:
    """Add server-side session data."""

    @app.get("/api/v1/session/data")
    async def read(request: Request) -> dict[str, Any]:
        await asyncio.sleep(READ_S)
        return {"data": state.sessions.get(request.cookies.get("owui-session", ""), {})}

    @app.post("/api/v1/session/data")
    async def write(body: dict[str, Any], request: Request, response: Response) -> dict[str, Any]:
        session = request.cookies.get("owui-session") or secrets.token_hex(8)
        state.sessions.setdefault(session, {}).update(body)
        response.set_cookie("owui-session", session)
        return {"data": state.sessions[session]}


def chat_routes(app: FastAPI, state: State) -> None:
    """Add chats, tasks and the provider's list of models."""

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"data": [{"id": "counter"}]}

    @app.post("/api/chat/completions")
    async def chat(body: dict[str, Any], request: Request) -> dict[str, Any]:
        user, name, number = user_of(state, request), str(uuid.uuid4()), str(uuid.uuid4())
        marker = MARKER.search(body["messages"][-1]["content"])
        assert marker, "the message holds no marker"
        work = asyncio.create_task(state.stream(user, body["id"], name, marker))
        state.tasks[number] = (name, work)
        work.add_done_callback(lambda _: state.tasks.pop(number, None))
        return {"status": True, "chat_id": name, "task_ids": [number]}

    task_routes(app, state)


def task_routes(app: FastAPI, state: State) -> None:
    """Add the lists of tasks and the stops."""

    @app.get("/api/tasks/chat/{chat}")
    async def listed(chat: str, request: Request) -> dict[str, Any]:
        user_of(state, request)
        return {"task_ids": [task for task, (of, _) in state.tasks.items() if of == chat]}

    @app.post("/api/tasks/chat/{chat}/stop")
    async def stop_chat(chat: str, request: Request) -> dict[str, Any]:
        user_of(state, request)
        found = [task for task, (of, _) in state.tasks.items() if of == chat]
        for task in found:
            state.stop(task)
        return (
            {"status": True, "state": "cancelled"}
            if found
            else {"status": True, "state": "finished"}
        )

    @app.post("/api/tasks/stop/{task}")
    async def stop(task: str, request: Request) -> dict[str, Any]:
        user_of(state, request)
        return state.stop(task)


async def serve(hosts: list[str], port: int, state: State) -> None:
    """Serve every host until the process is ended."""
    servers = []
    for host in hosts:
        app = socketio.ASGIApp(state.socket, make_app(state), socketio_path="/ws/socket.io")
        config = uvicorn.Config(app, host=host, port=port, log_level="warning", access_log=False)
        servers.append(uvicorn.Server(config))
    await asyncio.gather(*(server.serve() for server in servers))


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("hosts", nargs="+")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--dead-stop", action="store_true")
    parser.add_argument("--deaf-sign-out", action="store_true")
    parser.add_argument("--drop", action="store_true")
    options = parser.parse_args()
    state = State(options.dead_stop, options.deaf_sign_out, options.drop)
    asyncio.run(serve(options.hosts, options.port, state))


if __name__ == "__main__":
    main()
