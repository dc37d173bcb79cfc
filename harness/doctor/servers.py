"""Redis, the sentinels and the database of an environment: `runtime check --json` looks at them.

That command connects as a worker would, with the same code, in all three modes. So there is one
set of rules about servers, and no import between the two packages.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

import orjson

from harness.doctor.findings import Finding
from harness.doctor.variables import Environment
from harness.errors import UserError
from harness.targets.runtime import RuntimeTarget

WITHIN_S = 60.0
KEPT = ("PATH", "HOME", "LANG", "PYTHONPATH", "VIRTUAL_ENV", "SSL_CERT_FILE", "PGPASSFILE")
OF_THE_RUNTIME = ("database-absent", "permission-missing", "permissions-unknown")
STAND_IN = "a secret that is not used, for the variables have none"
STOCK_POOL, STOCK_OVERFLOW = 5, 10  # SQLAlchemy's own, which Open WebUI leaves as they are


async def look(env: Environment) -> list[Finding]:
    """Return what the servers of an environment show; raise UserError when nobody can tell."""
    process = await asyncio.create_subprocess_exec(
        *_command(env),
        env=_variables(env.values),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, errors = await asyncio.wait_for(process.communicate(), WITHIN_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise UserError(f"{env.name}: `runtime check` did not end within {WITHIN_S:g} s") from None
    if out.strip():
        found = orjson.loads(out)["findings"]
        ours = env.app == "runtime"
        return [_finding(env, one) for one in found if ours or one["name"] not in OF_THE_RUNTIME]
    return [_refused(env, line) for line in errors.decode().splitlines() if line.strip()]


def _command(env: Environment) -> list[str]:
    words = [*RuntimeTarget().check(), "--json", "--replicas", str(env.replicas)]
    if env.app == "open-webui":
        pool = env.number("DATABASE_POOL_SIZE", STOCK_POOL)
        pool += env.number("DATABASE_POOL_MAX_OVERFLOW", STOCK_OVERFLOW)
        words += ["--database-pool", str(int(pool) or 1), "--pubsub"]
    return words


def _variables(values: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the question: the file's variables, none of this shell's."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    given = {"WEBUI_SECRET_KEY": STAND_IN, "ALLOW_WORKERS_WITHOUT_REDIS": "true"}
    filled = {name: value for name, value in values.items() if value or name not in given}
    return {**kept, **given, **filled}


def _finding(env: Environment, fields: dict[str, str]) -> Finding:
    where = f"{env.name}, {fields['where']}" if env.name else fields["where"]
    return Finding(**{**fields, "where": where})  # type: ignore[arg-type]  # its own JSON


def _refused(env: Environment, line: str) -> Finding:
    said = line.removeprefix("Error: ")
    return Finding("setting-refused", "error", env.name, "a variable cannot be used", said,
                   "the runtime does not start; other apps ignore it or fail later",
                   "correct it as the line says")  # fmt: skip
