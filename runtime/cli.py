"""The command `runtime`: serve, and check the configuration."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import click
import orjson
import uvicorn

from runtime.operate import acl as rules
from runtime.operate import doctor
from runtime.redis.factory import topology_from
from runtime.redis.urls import masked_url
from runtime.settings import Settings, SettingsError, load_settings
from runtime.storage.engine import driver_url
from runtime.telemetry.logs import configure

SHUTDOWN_S = 3
# longer than balancers keep idle connections (nginx: 60), or a request meets the closing
KEEP_ALIVE_S = 75
BACKLOG = 2048
SECRETS = ("secret", "password", "key", "token", "headers")
EXITS = {"error": 3, "unreachable": 4}
VERDICTS = {"error": "wrong", "unreachable": "cannot be examined, a server is away"}
NOT_SECRET = ("redis_key_prefix",)


class WrongConfiguration(click.ClickException):
    """Variables that cannot be used; the command ends with 3."""

    exit_code = 3


@click.group()
def main() -> None:
    """Serve the distributed layer of a multi-worker chat application."""


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535))
@click.option("--workers", type=click.IntRange(1), help="Processes that share the port.")
@click.option("--fd", type=int, hidden=True, help="A listening socket of the parent.")
def serve(host: str, port: int, workers: int | None, fd: int | None) -> None:
    """Serve until SIGTERM or SIGINT."""
    settings = _settings(workers)
    if not settings.database_url:
        Path(settings.data_dir).mkdir(parents=True, exist_ok=True)
    configure(settings.global_log_level, settings.src_log_levels, settings.log_format)
    if settings.uvicorn_workers > 1 and fd is None:
        from runtime.workers import Workers

        parent = Workers(host, port, settings.uvicorn_workers, settings.drain_timeout)
        sys.exit(parent.run())
    sys.exit(serve_one(settings, host, port, fd))


@main.command()
@click.option("--offline", is_flag=True, help="Look at the variables only; connect to nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings alone, as JSON.")
@click.option("--replicas", type=click.IntRange(1), default=1, help="How many such deployments.")
@click.option("--database-pool", type=click.IntRange(1), help="Connections of one process.")
@click.option("--pubsub", is_flag=True, help="Events travel by Redis's pub/sub.")
def check(
    offline: bool, as_json: bool, replicas: int, database_pool: int | None, pubsub: bool
) -> None:
    """Print the effective configuration, connect, and say what is wrong or risky.

    Ends with 3 for a wrong configuration, 4 when Redis or the database cannot be reached.
    """
    settings = _settings(None)
    use = doctor.Use(replicas, database_pool or doctor.Use.database_pool, pubsub)
    findings = [] if offline else asyncio.run(doctor.examine(settings, use))
    levels = {finding.level for finding in findings}
    worst = next((level for level in EXITS if level in levels), "")
    if as_json:
        click.echo(orjson.dumps({"findings": [finding.fields() for finding in findings]}))
    else:
        for line in (*describe(settings), *map(str, findings)):
            click.echo(line)
        click.echo(f"configuration: {VERDICTS[worst] if worst else 'ok'}")
    sys.exit(EXITS[worst] if worst else 0)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print the rules alone, as JSON.")
def acl(as_json: bool) -> None:
    """Print the ACL users that this configuration needs, each with the least that it needs."""
    settings = _settings(None)
    try:
        found, lines = rules.rules_of(settings), rules.commands(settings)
    except SettingsError as error:
        raise WrongConfiguration(str(error)) from None
    click.echo(orjson.dumps(found) if as_json else "\n".join(lines))


def serve_one(settings: Settings, host: str, port: int, fd: int | None) -> int:
    """Serve in this process; return the exit code."""
    from runtime.app import create_app
    from runtime.server import DrainingServer

    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        fd=fd,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        access_log=False,
        log_level=settings.global_log_level.lower(),
        log_config=None,
        backlog=BACKLOG,
        proxy_headers=True,
        forwarded_allow_ips=settings.forwarded_allow_ips,
        timeout_graceful_shutdown=SHUTDOWN_S,
        timeout_keep_alive=KEEP_ALIVE_S,
        ws_ping_interval=None,  # Socket.IO has its own
        ws_per_message_deflate=False,
    )
    server = DrainingServer(config, app.state.services)
    server.run()
    return 0 if server.started else 1


def describe(settings: Settings) -> list[str]:
    """Return one `NAME=value` line per setting, secrets masked."""
    return [f"{name.upper()}={_masked(name, value)}" for name, value in settings]


def _masked(name: str, value: object) -> object:
    if name in NOT_SECRET or not value:
        return value
    if any(word in name for word in SECRETS):
        return "********"
    if "url" in name:
        return masked_url(str(value))
    return value


def _socket_variable(settings: Settings) -> str:
    return "WEBSOCKET_REDIS_URL" if settings.websocket_redis_url else "REDIS_URL"


def _settings(workers: int | None) -> Settings:
    """Return the settings; exit 3 with one line per wrong variable."""
    environ = dict(os.environ)
    if workers is not None:
        environ["UVICORN_WORKERS"] = str(workers)
    try:
        settings = load_settings(environ)
        if not settings.webui_secret_key:
            raise SettingsError(
                "WEBUI_SECRET_KEY: is not set; set the same random text of at least 32 "
                "characters for all workers"
            )
        driver_url(settings.database)  # these read the URLs; they open nothing
        topology_from(settings)
        topology_from(settings.websocket(), _socket_variable(settings))
    except SettingsError as error:
        raise WrongConfiguration(str(error)) from None
    return settings
