"""One turn of the load generator in a process of its own, as load processes run; prints JSON.

`plain`: Locust's FastHttpUser as anybody would write it. `recorded`: the same request as an
operation of the load, with its history. `schedule`: the timetable of a plan. `record`: the records
of an operation alone, without its request.
"""

from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402  # after the patch
import time  # noqa: E402  # after the patch
from collections.abc import Callable  # noqa: E402  # after the patch
from pathlib import Path  # noqa: E402  # after the patch
from typing import Any  # noqa: E402  # after the patch

import gevent  # noqa: E402  # after the patch
import orjson  # noqa: E402  # after the patch
from locust import FastHttpUser, User, constant, task  # noqa: E402  # after the patch
from locust.env import Environment  # noqa: E402  # after the patch

from harness.checks.measure import quantile  # noqa: E402  # after the patch
from harness.deploy.folder import RunFolder  # noqa: E402  # after the patch
from harness.load.accounts import Account, Accounts  # noqa: E402  # after the patch
from harness.load.context import LoadContext  # noqa: E402  # after the patch
from harness.load.operations import Operations  # noqa: E402  # after the patch
from harness.load.setup import LoadSetup, setup_path  # noqa: E402  # after the patch
from harness.load.timetable import Timetable  # noqa: E402  # after the patch
from harness.load.watch import Watch  # noqa: E402  # after the patch
from harness.plan import make_plan  # noqa: E402  # after the patch
from harness.scenario import Scenario  # noqa: E402  # after the patch

USERS = 20
WARM_S = 0.5
RECORDS = 20_000
RATE = 500
ACCOUNT = Account("u0", "u0@load.example", "", "10.0.0.1", "u0", "a.token.of-some-length" * 8, "u0")


class PlainUser(FastHttpUser):
    """Asks who it is, again and again."""

    wait_time = constant(0)  # type: ignore[no-untyped-call]  # Locust's

    @task
    def ask(self) -> None:
        """Send the request with the headers that the load sends."""
        self.client.get("/api/v1/auths/", name="me", headers=ACCOUNT.headers())


def context_of(folder: Path, url: str, rate: float, seconds: float) -> LoadContext:
    """Return the context of a load process of a small run."""
    fields = {"name": "one", "story": "A turn of the benchmark.", "topology": "standalone"}
    load = {"users": 1, "reads_per_s": rate}
    focus = {"stops_per_s": 0, "sign_outs_per_s": 0}
    changes = {"load": load, "focus": focus, "warmup_s": 0, "duration_s": seconds}
    run = RunFolder.create(folder)
    run.plan.write_bytes(make_plan(Scenario.model_validate(fields | changes), 1).to_json())
    Accounts(ACCOUNT, ACCOUNT, [ACCOUNT], [], "model").write(run.accounts)
    LoadSetup((url,), frozenset(), time.clock_gettime(time.CLOCK_MONOTONIC)).write(setup_path(run))
    return LoadContext(run, 0, 1)


def recording_user(operations: Operations) -> type[User]:
    """Return a user class that sends the same request as an operation."""

    class Recording(User):
        wait_time = constant(0)  # type: ignore[no-untyped-call]  # Locust's

        @task
        def ask(self) -> None:
            operations.me(ACCOUNT, 0)

    return Recording


def closed_loop(environment: Environment, user: type[User], seconds: float) -> dict[str, float]:
    """Return requests a second and processor time a request, after a warm-up."""
    environment.user_classes = [user]
    runner = environment.create_local_runner()
    runner.start(USERS, spawn_rate=USERS)
    gevent.sleep(WARM_S)
    total = environment.stats.total
    before, cpu, began = total.num_requests, time.process_time(), time.monotonic()
    gevent.sleep(seconds)
    requests = total.num_requests - before
    cpu, took = time.process_time() - cpu, time.monotonic() - began
    failures = total.num_failures
    runner.quit()
    assert not failures, f"{failures} requests failed"
    return {"per_s": requests / took, "cpu_us": 1e6 * cpu / requests}


def plain(_: Path, url: str, seconds: float) -> dict[str, float]:
    """Load without any of ours."""
    return closed_loop(Environment(host=url), PlainUser, seconds)


def recorded(folder: Path, url: str, seconds: float) -> dict[str, float]:
    """Load with operations, their history and the watch, as in a run."""
    context = context_of(folder, url, 0, 1)
    environment = Environment()
    Watch(context).start()
    user = recording_user(Operations(context, environment))
    return closed_loop(environment, user, seconds)


def record(folder: Path, url: str, _: float) -> dict[str, float]:
    """Write the two records of an operation, and nothing else."""
    writer = context_of(folder, url, 0, 1).writer
    cpu = time.process_time()
    for _ in range(RECORDS):
        identity = writer.invoke("me", worker=0, token="u0")
        writer.complete("ok", identity, "me", alive=True)
    writer.flush()
    return {"cpu_us": 1e6 * (time.process_time() - cpu) / RECORDS}


def schedule(folder: Path, url: str, seconds: float) -> dict[str, float]:
    """Run a timetable of 500 reads a second; return how late they began, in ms."""
    context = context_of(folder, url, RATE, seconds)
    timetable = Timetable(context, Operations(context, Environment()), {})
    Watch(context).start()
    context.t0 = context.clock.now() + WARM_S
    timetable.run()
    while not timetable.idle:
        gevent.sleep(0.05)
    context.writer.close()
    records = [orjson.loads(line) for line in context.writer.path.read_bytes().splitlines()]
    late = sorted(1000 * (r["t"] - r["scheduled"]) for r in records if "scheduled" in r)
    answered = sum(r["k"] == "ok" for r in records)
    assert answered == len(late) == int(RATE * seconds), (answered, len(late))
    return {f"p{q}_ms": quantile(late, q / 100) for q in (50, 99, 100)}


MODES: dict[str, Callable[[Path, str, float], Any]] = {
    "plain": plain,
    "recorded": recorded,
    "record": record,
    "schedule": schedule,
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="generator_probe", description=__doc__)
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("url")
    parser.add_argument("seconds", type=float)
    chosen = parser.parse_args()
    answer = MODES[chosen.mode](chosen.folder, chosen.url, chosen.seconds)
    print(orjson.dumps(answer).decode())
