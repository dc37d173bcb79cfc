"""Local tasks, intents' fields, and the provider's stream."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from runtime.models.provider import EventParser, Provider, ProviderError, Route
from runtime.redis.keys import Keys
from runtime.storage.database import Database
from runtime.supervision import Loop, Supervisor
from runtime.tasks.completions import Completion, Request, Tools
from runtime.tasks.registry import Draining, Tasks
from runtime.tasks.response_streams import ResponseStreams
from runtime.tasks.stops import parse
from runtime.tasks.store import TaskRow, TaskStore


async def kept_nowhere(task_id: str) -> None:
    """Refuse to keep a stop: these tests stop their own tasks only."""
    raise AssertionError(task_id)


class Work:
    """A task body that waits, and notes how it ended."""

    def __init__(self) -> None:
        self.outcome = ""
        self.release = asyncio.Event()

    async def __call__(self) -> None:
        """Wait for `release`."""
        try:
            await self.release.wait()
            self.outcome = "done"
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # clean-up that a second cancel would break
            self.outcome = "cancelled"


async def settled(tasks: Tasks) -> None:
    """Wait until all tasks ended."""
    await tasks.drain(5)


async def test_stop_cancels_once_and_is_then_finished() -> None:
    """Two stops in a row cancel one time; afterwards the task is finished, not unknown."""
    tasks, work = Tasks(kept_nowhere), Work()
    await tasks.start("t", "c", work)
    assert [tasks.cancel("t"), tasks.cancel("t")] == ["cancelled", "cancelled"]
    await settled(tasks)
    assert (work.outcome, tasks.cancel("t"), tasks.cancel("other")) == (
        "cancelled",
        "finished",
        None,
    )


async def test_stop_of_a_task_that_settled_leaves_its_end_alone() -> None:
    """Once a task said that it ended, a stop answers finished and does not cancel."""
    tasks, work = Tasks(kept_nowhere), Work()
    await tasks.start("t", "c", work)
    tasks.ended("t")
    assert tasks.cancel("t") == "finished"
    work.release.set()
    await settled(tasks)
    assert work.outcome == "done"


async def test_lists_hold_running_tasks_of_the_item() -> None:
    """Without Redis a worker lists its own tasks, by item and all."""
    tasks, work = Tasks(kept_nowhere), Work()
    await tasks.start("t1", "c1", work)
    await tasks.start("t2", "c2", work)
    assert (await tasks.list_item("c1"), sorted(await tasks.list_all())) == (["t1"], ["t1", "t2"])
    work.release.set()
    await settled(tasks)
    assert await tasks.list_all() == []


async def test_draining_takes_no_task_and_ends_those_that_run() -> None:
    """After the deadline running tasks are cancelled, with their clean-up awaited."""
    tasks, work = Tasks(kept_nowhere), Work()
    await tasks.start("t", "c", work)
    await tasks.drain(0.01)
    assert work.outcome == "cancelled"
    with pytest.raises(Draining):
        await tasks.start("t2", "c", work)


def test_intent_field_is_state_and_time() -> None:
    """A field says state and time; a missing or odd one says nothing."""
    assert parse(b"requested|12.5") == ("requested", 12.5)
    assert parse(None) == ("", 0.0)
    assert parse("odd") == ("odd", 0.0)


def test_event_parser_joins_what_a_read_brought() -> None:
    """Events cut anywhere give the same text; nothing after [DONE] counts."""
    chunk = b'data: {"choices":[{"delta":{"content":"%s"}}]}\n\n'
    data = chunk % b"a" + b": comment\n\n" + chunk % b"b" + b"data: [DONE]\n\n" + chunk % b"c"
    for cut in range(len(data)):
        parser = EventParser()
        text = parser.feed(data[:cut]) + parser.feed(data[cut:])
        assert (text, parser.done) == ("ab", True)


PARTS = b'data: {"choices":[{"delta":{"content":[{"type":"text","text":"a"}]}}]}'


@pytest.mark.parametrize("line", [b"data: {", b'data: {"error":"no"}', b"data: 7", PARTS])
def test_event_parser_refuses_what_is_no_chunk(line: bytes) -> None:
    """A broken event is an error of the provider, never an empty text."""
    with pytest.raises(ProviderError):
        EventParser().feed(line + b"\n")


async def test_an_answer_that_fails_unexpectedly_is_over(tmp_path: Path) -> None:
    """Whatever goes wrong: the message is not left running, and its user is told."""
    database = Database(f"sqlite:///{tmp_path}/runtime.db")
    await database.open()
    store = TaskStore(database, "w")
    told = []

    async def find(model: str) -> Route:
        raise LookupError(model)

    async def emit(_: str, payload: dict[str, Any]) -> None:
        told.append(payload["data"]["type"])

    streams = ResponseStreams(store, None, Keys("test"), 0)
    tools = Tools(Provider(find), store, streams, emit, lambda _: None)
    await store.begin(TaskRow("t", "c", "u", "running"), "m", new_chat="Chat")
    await Completion(Request("t", "c", "m", "u", {"model": "m"}), tools).run()
    assert await store.states(["t"]) == {"t": "error"}
    assert told == ["chat:active", "chat:message:error", "chat:active"]
    await database.close()


async def test_failing_loop_is_started_again_and_counted() -> None:
    """A loop that raises goes on, and its status tells how often and why."""
    supervisor, rounds = Supervisor(), asyncio.Event()
    seen = []

    async def body(loop: Loop) -> None:
        seen.append(loop.restarts)
        if len(seen) > 1:
            rounds.set()
            await asyncio.Event().wait()
        raise ValueError("odd")

    loop = supervisor.run("odd", body)
    await asyncio.wait_for(rounds.wait(), 2)
    assert (loop.restarts, loop.error) == (1, "ValueError: odd")
    await supervisor.stop()
