"""Which processors the workers have, and which everything else."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

from harness.errors import UserError


@dataclass(frozen=True)
class CpuPlan:
    """Processors of the workers and of the rest: generator, Redis, provider, Toxiproxy, harness.

    Both empty means shared: everything runs anywhere.
    """

    workers: tuple[int, ...] = ()
    others: tuple[int, ...] = ()
    total: int = 1

    @property
    def split(self) -> bool:
        """Tell whether the workers have processors of their own."""
        return bool(self.workers) and not set(self.workers) & set(self.others)

    @property
    def for_workers(self) -> int:
        """Return how many processors the workers can use."""
        return len(self.workers) or self.total

    @property
    def for_others(self) -> int:
        """Return how many processors the rest can use."""
        return len(self.others) or self.total

    @property
    def words(self) -> str:
        """Return where everything ran, in one sentence."""
        if not self.workers:
            return (
                f"Workers, generator and Redis shared all {self.total} processors: they took time "
                "from each other, so the workers would carry more alone."
            )
        shared = "" if self.split else " The two sets overlap, so they took time from each other."
        return (
            f"Workers ran on processors {listed(self.workers)}; generator, Redis, provider, "
            f"Toxiproxy and harness on {listed(self.others)}.{shared}"
        )


def plan_cpus(workers: str | None, others: str | None, most_workers: int) -> CpuPlan:
    """Return the plan from `--worker-cpus` and `--other-cpus`, or an own split; raise UserError.

    The own split gives workers one processor each, but leaves half of the machine to the rest.
    """
    available = allowed()
    if workers is None and others is None:
        return split(available, most_workers)
    mine = parse(workers, available, "--worker-cpus") if workers else ()
    rest = parse(others, available, "--other-cpus") if others else ()
    mine = mine or tuple(cpu for cpu in available if cpu not in rest)
    rest = rest or tuple(cpu for cpu in available if cpu not in mine)
    if not mine or not rest:
        raise UserError(
            f"--worker-cpus and --other-cpus: expected a processor for each of the two, got "
            f"{listed(mine) or 'none'} and {listed(rest) or 'none'} of {listed(available)}"
        )
    return CpuPlan(mine, rest, len(available))


def split(available: tuple[int, ...], most_workers: int) -> CpuPlan:
    """Return the own split; one processor alone, or none that can be bound, is shared."""
    if len(available) < 2 or not hasattr(os, "sched_setaffinity"):
        return CpuPlan(total=max(1, len(available)))
    for_workers = min(most_workers, len(available) // 2)
    return CpuPlan(available[:for_workers], available[for_workers:], len(available))


def allowed() -> tuple[int, ...]:
    """Return the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def parse(text: str, available: tuple[int, ...], option: str) -> tuple[int, ...]:
    """Return the processors of a list like `0-3,6`; raise UserError naming the option."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise UserError(f"{option} {text}: expected processors such as 0-3,6; got {part!r}")
        found.update(range(int(first), int(last if dash else first) + 1))
    if missing := sorted(found - set(available)):
        raise UserError(
            f"{option} {text}: processor {listed(tuple(missing))} is not available here; "
            f"these are: {listed(available)}"
        )
    return tuple(sorted(found))


def listed(cpus: tuple[int, ...]) -> str:
    """Return processors as words; neighbours as a range."""
    runs: list[list[int]] = []
    for cpu in cpus:
        if runs and cpu == runs[-1][-1] + 1:
            runs[-1][1:] = [cpu]
        else:
            runs.append([cpu])
    return ", ".join("-".join(map(str, run)) for run in runs)


@contextlib.contextmanager
def bound_to(cpus: tuple[int, ...]) -> Iterator[None]:
    """Run on these processors alone, and everything that is started meanwhile; none means any."""
    if not cpus:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
