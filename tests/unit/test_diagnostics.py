"""Whose keys and connections these are, which settings differ, and which loops are silent."""

from __future__ import annotations

import asyncio

import pytest

from harness.waiting import wait_for
from runtime.operate.diagnostics import connections_of, fingerprint, kind_of
from runtime.redis.keys import Keys, instance_of, new_life
from runtime.settings import load_settings
from runtime.supervision import Loop, Supervisor


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("P:tasks:item:1", "tasks"),
        ("P:tasks", "tasks"),
        ("{P:socketio}:events", "socketio"),
        ("{P:session_pool}:seen", "session_pool"),
        ("P2:tasks", None),
        ("other:P:tasks", None),
        (Keys("P").rate_limit("k", 1), "ratelimit"),
        (Keys("P").instance("w0"), "instances"),
    ],
)
def test_kinds_of_keys(key: str, kind: str | None) -> None:
    """The first word after the prefix; another deployment's keys have none."""
    assert kind_of(key, "P") == kind


def test_connections_are_counted_by_instance_and_purpose() -> None:
    """Names are `instance:purpose`; an instance may hold a colon."""
    lines = "\n".join(
        f"id=1 addr=127.0.0.1:1 name={name} age=1"
        for name in ("w:0:commands", "w:0:subscriber", "w:0:subscriber", "x:commands", "")
    )
    assert connections_of(lines, ["w:0"]) == {
        ("w:0", "commands"): 1,
        ("w:0", "subscriber"): 2,
        ("", "others"): 2,
    }


def test_lives_of_one_instance_differ_and_tell_it() -> None:
    """A worker that is back before its lease ended does not prolong it; an id may hold dots."""
    first, second = new_life("w.0"), new_life("w.0")
    assert first != second
    assert instance_of(first) == instance_of(second) == "w.0"


def test_the_fingerprint_tells_settings_apart_but_not_workers() -> None:
    """Another prefix or secret shows; instance, logs and telemetry are a worker's own."""

    def of(**environ: str) -> str:
        return fingerprint(load_settings({"WEBUI_SECRET_KEY": "s" * 32, **environ}))

    same = of(INSTANCE_ID="a", GLOBAL_LOG_LEVEL="DEBUG", ENABLE_OTEL="true", METRICS_ACCESS="open")
    assert same == of(INSTANCE_ID="b")
    assert of() != of(REDIS_KEY_PREFIX="other")
    assert of() != of(WEBUI_SECRET_KEY="t" * 32)


async def test_a_loop_that_never_succeeds_is_silent_and_says_why() -> None:
    """It is restarted for ever, which its status shows."""
    supervisor = Supervisor()

    async def broken(loop: Loop) -> None:
        raise ValueError("no")

    async def fine(loop: Loop) -> None:
        while True:
            loop.succeeded()
            await asyncio.sleep(0.01)

    dead = supervisor.run("dead", broken, silent_s=0.0)
    alive = supervisor.run("alive", fine, silent_s=60.0)
    unwatched = supervisor.run("unwatched", broken)
    await wait_for(lambda: dead.restarts > 0, 2, "it failed")
    await supervisor.stop()
    assert dead.is_silent
    assert "ValueError: no" in dead.status["error"]
    assert not alive.is_silent
    assert not unwatched.is_silent
