"""The sockets on a Redis of their own: nothing falls between the two."""

from __future__ import annotations

import uuid
from pathlib import Path

from bus_cluster import ClusterSet
from bus_servers import HOST, serving
from redis.asyncio import Redis

from harness.waiting import wait_for
from tests.integration.app_deployment import User, deployment


async def test_sockets_with_their_own_redis(tmp_path: Path) -> None:
    """Events, stops and sign-outs cross workers although they use two servers (W-26)."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with serving(tmp_path / "a") as main, serving(tmp_path / "b") as sockets:
        environ = {"REDIS_URL": main.url, "WEBSOCKET_REDIS_URL": sockets.url}
        async with deployment(with_redis=False, environ=environ) as app:
            user = await app.user(0)
            client = await user.connect(1)
            await user.chat_and_stop()
            assert [k for k in await sockets.call("KEYS", "*") if "socketio" in k]
            assert not [k for k in await main.call("KEYS", "*") if "socketio" in k]
            assert (await user.call("POST", "/api/v1/auths/signout", 0))[0] == 200
            await wait_for(lambda: not client.connected, 8, "the socket is closed")
            await user.leave()


async def test_sockets_with_a_database_of_their_own(tmp_path: Path) -> None:
    """`/0` and `/1` of one server, as in the usual example: events are in one, the rest not."""
    async with serving(tmp_path) as server:
        environ = {"REDIS_URL": server.url, "WEBSOCKET_REDIS_URL": f"{server.url[:-1]}1"}
        async with deployment(with_redis=False, environ=environ) as app:
            user = await app.user(0)
            await user.connect(1)
            await user.call("POST", "/api/v1/session/data", 0, {"a": 1})
            await user.chat(uuid.uuid4().hex[:8], 0, tokens=5)
            await wait_for(lambda: "t4 " in user.text(), 8, "tokens from the other worker")
            general, sockets = [await names_of(server.port, number) for number in (0, 1)]
            assert [name for name in sockets if "socketio" in name]
            assert not [name for name in general if "socketio" in name]
            assert [name for name in general if ":session:" in name]
            assert not [name for name in sockets if ":session:" in name]
            await user.leave()


async def names_of(port: int, database: int) -> list[str]:
    """Return all keys of one of a server's databases."""
    client = Redis(host=HOST, port=port, db=database, decode_responses=True)
    try:
        return [str(name) for name in await client.keys()]
    finally:
        await client.aclose()


async def test_a_dead_cluster_breaks_no_request(tmp_path: Path) -> None:
    """All nodes gone: tokens stay valid or revoked as the database says (W-40)."""
    servers = ClusterSet(tmp_path)
    try:
        await servers.start()
        async with deployment(with_redis=False, environ=servers.environment()) as app:
            user, other = await app.user(0), await app.user(0)
            servers.kill()
            assert (await user.call("GET", "/api/v1/auths/", 1))[0] == 200
            assert (await other.call("POST", "/api/v1/auths/signout", 0))[0] == 200
            await wait_for(lambda: refused(other), 5, "the other worker refuses the token")
            assert (await user.call("GET", "/api/v1/auths/", 1))[0] == 200
    finally:
        servers.kill()


async def refused(user: User) -> bool:
    """Return whether worker 1 refuses the user's token."""
    return (await user.call("GET", "/api/v1/auths/", 1))[0] == 401
