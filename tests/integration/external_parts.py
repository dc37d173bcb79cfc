"""A deployment started by hand, as a user would have one: workers, Redis, Toxiproxy, nginx."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from harness.deploy.balancer import find_nginx
from harness.network.toxiproxy import find_toxiproxy
from harness.waiting import wait_for
from tests.integration.app_deployment import PORT, REDIS, SUBNET, Deployment, Program

PASSWORD = "correct horse battery"
ADMIN = "root@external.example"
PROVIDER = f"http://{SUBNET}.4:9000/v1"
API = f"http://{SUBNET}.2:8474"
NGINX = """
daemon off; error_log stderr; pid {folder}/nginx.pid;
events {{}}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream app {{ {servers} }}
  server {{
    listen {listen};
    location / {{
      proxy_pass http://app; proxy_http_version 1.1; proxy_buffering off;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";
    }}
  }}
}}
"""


async def call(method: str, url: str, body: Any = None, token: str = "") -> tuple[int, Any]:
    """Return status and JSON body."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, url, json=body, headers=headers) as answer,
    ):
        text = await answer.text()
        return answer.status, json.loads(text) if text else None


async def sign_up(url: str) -> str:
    """Make the first account, who is admin; return its token."""
    form = {"name": "root", "email": ADMIN, "password": PASSWORD}
    status, body = await call("POST", f"{url}/api/v1/auths/signup", form)
    assert status == 200, body
    return str(body["token"])


async def emails(url: str, token: str) -> list[str]:
    """Return the addresses of all accounts."""
    _, body = await call("GET", f"{url}/api/v1/users/", None, token)
    users = body["users"] if isinstance(body, dict) else body
    return sorted(user["email"] for user in users)


async def proxies() -> dict[str, Any]:
    """Return what Toxiproxy tells of its proxies."""
    found: dict[str, Any] = (await call("GET", f"{API}/proxies"))[1]
    return found


@contextlib.asynccontextmanager
async def by_hand(folder: Path) -> AsyncIterator[Deployment]:
    """Run Redis, Toxiproxy and two workers that reach Redis through a proxy each."""
    toxiproxy = Program(
        [str(find_toxiproxy()), "-host", f"{SUBNET}.2", "-port", "8474"], {}, folder / "toxi.log"
    )
    urls = [f"redis://{SUBNET}.2:{20000 + n}/0" for n in (0, 1)]
    parts = Deployment(
        folder,
        environ={"OPENAI_API_BASE_URL": PROVIDER},
        environs=[{"REDIS_URL": url} for url in urls],
    )
    await toxiproxy.start()
    try:
        await wait_for(proxies_known, 10, "Toxiproxy answers")
        await call("POST", f"{API}/populate", [_proxy(n) for n in (0, 1)])
        await parts.start()
        yield parts
    finally:
        with contextlib.suppress(AttributeError):  # its client is made at its start
            await parts.stop()
        await toxiproxy.stop()


async def proxies_known() -> bool:
    """Tell whether Toxiproxy answers."""
    return await proxies() is not None


def _proxy(worker: int) -> dict[str, str]:
    listen = f"{SUBNET}.2:{20000 + worker}"
    return {"name": f"w{worker}", "listen": listen, "upstream": f"{REDIS}:6379"}


@contextlib.asynccontextmanager
async def stock_behind_nginx(folder: Path) -> AsyncIterator[str]:
    """Run two workers of the stock app on one Redis, nginx before them; yield nginx's URL."""
    redis = ["redis-server", "--bind", REDIS, "--port", "6379", "--save", "", "--dir", str(folder)]
    variables = {
        "REDIS_URL": f"redis://{REDIS}:6379/0",
        "SECRET_KEY": "0123456789abcdef0123456789abcdef",
        "DATABASE": str(folder / "stock.db"),
        "OPENAI_API_BASE_URL": PROVIDER,
    }
    app = [sys.executable, "-m", "uvicorn", "harness.targets.stock.app:app", "--port", str(PORT)]
    hosts = [f"{SUBNET}.{50 + n}" for n in (0, 1)]
    servers = " ".join(f"server {host}:{PORT};" for host in hosts)
    url = f"{SUBNET}.5:8080"
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, servers=servers, listen=url))
    programs = [
        Program(redis, {}, folder / "redis.log"),
        *(Program([*app, "--host", h], variables, folder / f"{h}.log") for h in hosts),
        Program([str(find_nginx()), "-c", f"{folder}/nginx.conf"], {}, folder / "nginx.log"),
    ]
    try:
        for program in programs:
            await program.start()
        for base in (*(f"http://{host}:{PORT}" for host in hosts), f"http://{url}"):
            await wait_for(lambda u=base: _healthy(u), 40, f"{base} answers")
        yield f"http://{url}"
    finally:
        for program in reversed(programs):
            await program.stop()


async def _healthy(url: str) -> bool:
    return (await call("GET", f"{url}/health"))[0] == 200
