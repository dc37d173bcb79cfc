"""The answers in plain words: questions that operators ask, and one recommendation."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from harness.capacity.answers import (
    AT_ONCE,
    MOST_WORKERS,
    POSTGRES_RESERVED,
    REDIS_FULL,
    SPARE_CLIENTS,
    WORTH,
    DatabaseNeed,
    Scaling,
    Series,
    maxclients,
)
from harness.capacity.cpus import CpuPlan
from harness.capacity.objective import Objective
from harness.capacity.points import MIB
from harness.options import load_with_options

if TYPE_CHECKING:
    from harness.capacity.sweep import Choices

HEADROOM = 0.75  # plan with so much of the knee: rates vary, and a worker may be away
KIB = 1024
QUIET = 0.1  # of the machine: what its own services may use


def named(series: Series) -> str:
    """Return how answers call a series."""
    return f"{series.topology}, {_workers(series.workers)}"


def users_per_worker(series: Series) -> str:
    """Return how many users so many workers carried."""
    name = named(series)
    said = f"{name}: {series.knee.words}"
    if series.workers > 1 and not series.own_processors:
        said += (
            "; they had fewer processors than workers, so this tells what sharing costs, not what "
            "further workers give"
        )
    return said + "."


def law(series: Series) -> str:
    """Return the fitted law in one sentence, or why there is none."""
    name = named(series)
    if series.law is None:
        return f"{name}: no law: {series.refusal}."
    fitted = series.law
    values = [
        f"{symbol} {c.value:.4g} (95 %: {c.low:.3g} to {c.high:.3g})"
        for symbol, c in (("λ", fitted.lam), ("σ", fitted.sigma), ("κ", fitted.kappa))
    ]
    peak = fitted.peak_users
    ends = f"peak at {peak:.0f} users" if peak and fitted.kappa.certain else "no proven peak"
    return f"{name}: {', '.join(values)}; R² {fitted.r_squared:.3f}; {ends}."


def best_workers(series: Sequence[Series], growth: Scaling | None, cpus: CpuPlan) -> str:
    """Return which number of workers is best: here, and with a processor for each."""
    known = [s for s in series if s.knee.users]
    if not known:
        return "Not known: no load met the objective."
    best = max(known, key=lambda s: (s.knee.users or 0, -s.workers))
    here = f"On the {_processors(cpus)} here, {_workers(best.workers)} carried most users"
    here += f" ({best.knee.users})." if len(known) > 1 else f" ({best.knee.users}); no other tried."
    return here if growth is None else f"{here} {_predicted(growth)}"


def _predicted(growth: Scaling) -> str:
    far = growth.best
    more = (
        f"up to {MOST_WORKERS} workers each further one adds more than"
        if far == MOST_WORKERS
        else f"beyond {_workers(far)} a further one adds less than"
    )
    redis = growth.redis_users
    limit = (
        ""
        if redis is None
        else f" One Redis server reaches {100 * REDIS_FULL:.0f} % of its core at about "
        f"{redis:.0f} users."
    )
    return (
        f"With a processor for each, predicted from how processor time grows "
        f"(σ = {growth.sigma:.3f} over workers), not measured: {more} {100 * WORTH:.0f} % of the "
        f"first; {_workers(far)} would carry about {growth.users(far):.0f} users.{limit}"
    )


def connections(series: Sequence[Series]) -> str:
    """Return Redis connections of a worker, and what `maxclients` has to be."""
    most = max((s.connections for s in series), default=0)
    if not most:
        return "Not measured."
    rows = "; ".join(f"{_workers(w)}: at least {maxclients(w, most)}" for w in (1, 2, 4, 8, 16))
    return (
        f"A worker held at most {most} connections to one Redis node, at any load. maxclients ≥ "
        f"{AT_ONCE} x workers x {most} + {SPARE_CLIENTS}: a rolling restart has old and new "
        f"workers at once, and {SPARE_CLIENTS} are for replicas, Sentinels, monitoring and people. "
        f"{rows}."
    )


def memory(series: Series) -> str:
    """Return memory of a worker and of a connected user."""
    name = named(series)
    line = series.memory
    if line is None:
        return f"{name}: too few loads for a slope."
    base = line.base / series.workers / MIB
    said = f"{name}: {base:.0f} MiB a worker without users, and"
    if line.low <= 0:
        return f"{said} too little per user to tell it from noise."
    low, high = line.low / KIB, line.high / KIB
    return (
        f"{said} {line.per_unit / KIB:.0f} KiB for each connected, chatting user "
        f"(95 %: {low:.0f} to {high:.0f})."
    )


def redis(series: Series) -> str:
    """Return what Redis used at the knee."""
    name = named(series)
    at = [p for p in series.usable if p.key.users <= (series.knee.users or 0)] or series.usable
    if not at:
        return f"{name}: not measured."
    point = max(at, key=lambda p: p.key.users)
    return (
        f"{name}: at {point.key.users} users the busiest server used {100 * point.redis_cpu:.0f} % "
        f"of a core and {point.redis_memory / MIB:.1f} MiB."
    )


def database(need: DatabaseNeed) -> str:
    """Return the pool arithmetic."""
    each = need.pool + need.overflow
    rows = ", ".join(f"{_workers(w)} {need.needed(w)}" for w in (1, 2, 4, 8, 16))
    return (
        f"A worker opens up to {need.pool} + {need.overflow} = {each} connections, twice that many "
        f"workers are there in a rolling restart: {rows}. max_connections {need.most}, less "
        f"{POSTGRES_RESERVED} reserved, is enough for {_workers(need.workers)}. This is arithmetic "
        "about PostgreSQL, not measured."
    )


def failover(cost: dict[str, Any] | None) -> str:
    """Return what the failover cost."""
    if cost is None:
        return "Not tried."
    return (
        f"With {_workers(cost['workers'])} and {cost['users']} users, the Sentinel primary was "
        f"killed: a new primary after {_seconds(cost['switch_s'])}; then workers were deaf to each "
        f"other for at most {_seconds(cost['deaf_s'])}, and the last operation that failed began "
        f"{_seconds(cost['recovery_s'])} after the switch. {cost['errors']} of "
        f"{cost['operations']} operations failed, {_count(cost['tokens_lost'])} tokens were lost. "
        f"Verdict: {cost['verdict']}."
    )


def recommendation(
    series: Sequence[Series],
    growth: Scaling | None,
    objective: Objective,
    cpus: CpuPlan,
    cost: dict[str, Any] | None,
) -> str:
    """Return one paragraph: what to run, and what to set."""
    known = [s for s in series if s.knee.users]
    if not known:
        return (
            "No recommendation: no load met the objective with the generator fast enough. Sweep "
            "lower loads, a laxer --objective, or a quieter machine."
        )
    best = max(known, key=lambda s: (s.knee.users or 0, -s.workers))
    per_worker = (best.knee.users or 0) / best.workers
    plan = [
        f"Plan with {HEADROOM * per_worker:.0f} concurrent users a worker: {100 * HEADROOM:.0f} % "
        f"of the {per_worker:.0f} that {_workers(best.workers)} carried at {objective.words}.",
        "Give each worker a processor of its own.",
        *_growth_advice(growth),
        *_resource_advice(best, max(s.connections for s in series), HEADROOM * per_worker),
    ]
    if cost is not None and cost["switch_s"] is not None:
        plan.append(f"Expect a failover to take about {_seconds(cost['switch_s'])}.")
    if not cpus.split:
        plan.append("Workers and generator shared processors here, so the true figures are higher.")
    return " ".join(plan)


def _growth_advice(growth: Scaling | None) -> list[str]:
    if growth is None:
        return []
    if growth.best == MOST_WORKERS:
        return [f"More workers pay up to {MOST_WORKERS} at least, which is a prediction."]
    full = growth.redis_users is not None and growth.users(growth.best + 1) >= growth.redis_users
    why = ", where one Redis server is full" if full else ""
    return [f"More workers pay until about {growth.best}{why}, which is a prediction."]


def _resource_advice(best: Series, connections: int, users: float) -> list[str]:
    """Return what Redis and memory have to allow for so many users a worker."""
    said = []
    if connections:
        said.append(
            f"Set maxclients of every Redis node to at least "
            f"{maxclients(best.workers, connections)} for {_workers(best.workers)}."
        )
    if (line := best.memory) is not None and line.low > 0:
        total = line.base / best.workers + line.per_unit * users
        said.append(f"Reserve {total / MIB:.0f} MiB a worker.")
    return said


def method(choices: Choices) -> list[str]:
    """Return how it was measured: who the users are, and what was counted."""
    load = load_with_options(choices.scenario, choices.options).load
    think, chats = load.think_s, load.chats
    loads = (
        "given" if choices.loads else "searched: doubled until the objective is missed, then closer"
    )
    return [
        f"A user keeps a socket open, asks for an answer of {chats.tokens} tokens at "
        f"{chats.tokens_per_s:g} a second, looks around meanwhile, waits {think[0]:g} to "
        f"{think[1]:g} s, and asks again. Users who only have a tab open cost memory, but hardly "
        "any of the rest.",
        "Every point is a run of its own with fresh workers, Redis and database. Operations are "
        "requests that were answered; latency counts from when they were due; warm-up is left out. "
        f"A point also misses when tokens were lost or streams ended early. Loads were {loads}.",
        "A point is not used when a load process or the generator's processors were nearly full, "
        "or when operations began late: then the workers were not what limited.",
    ]


def foreign(series: Sequence[Series], cpus: CpuPlan) -> str:
    """Return what other programs took meanwhile; empty when the machine was quiet."""
    taken = [point.foreign_cpu for s in series for point in s.points if point.operations]
    if not taken or median(taken) < QUIET * cpus.total:
        return ""
    return (
        f"Other programs used {median(taken):.1f} of the machine's {cpus.total} processors "
        f"meanwhile (at most {max(taken):.1f}). The workers would carry more on a quiet machine: "
        "measure again."
    )


def _workers(count: int) -> str:
    return f"{count} worker{'' if count == 1 else 's'}"


def _processors(cpus: CpuPlan) -> str:
    count = cpus.for_workers
    return f"{count} processor{'' if count == 1 else 's'}"


def _seconds(value: float | None) -> str:
    return "an unknown time" if value is None else f"{value:.2f} s"


def _count(value: int | None) -> str:
    return "an unknown number of" if value is None else str(value)
