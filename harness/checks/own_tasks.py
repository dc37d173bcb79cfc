"""The list of all tasks holds those of this deployment's users, and nobody else's."""

from __future__ import annotations

from harness.checks.base import Check, Facts, Finding
from harness.checks.measure import Worst, decide, missing_workers
from harness.history.records import OK, Record
from harness.targets.base import TASK_LIST


class TasksAreOwn(Check):
    """Every task in a list of all tasks was given to one of the load's users.

    A chat whose start was never answered may have a task that the load does not know, so as many
    unknown ones prove nothing.
    """

    name = "tasks-are-own"
    family = "tasks"
    sentence = "The list of all tasks holds nobody else's: no other installation's are in it."
    needs = frozenset({TASK_LIST})
    kinds = frozenset({"ok", "fail", "info"})
    ops = frozenset({"chat_start", "list_all_tasks"})

    def __init__(self) -> None:
        self._given: set[str] = set()
        self._unanswered: list[float] = []  # when starts that nobody answered were sent
        self._lists: dict[int, int] = {}  # worker → lists
        self._listed: dict[str, Record] = {}  # task → the first list that it is in

    def feed(self, record: Record) -> None:
        """Fold one record."""
        if record["op"] == "chat_start":
            self._given.update(record.get("tasks", ()))
            if record["k"] != OK:
                self._unanswered.append(record["invoke"]["t"])
        elif record["k"] == OK:
            worker = record["invoke"]["worker"]
            self._lists[worker] = self._lists.get(worker, 0) + 1
            for task in record["tasks"]:
                self._listed.setdefault(task, record)

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        bad = Worst()
        foreign = {t: r for t, r in self._listed.items() if t not in self._given}
        for task, record in foreign.items() if self._too_many([*foreign.values()]) else ():
            worker = record["invoke"]["worker"]
            text = f"worker {worker} listed task {task}, which no user of this deployment has"
            bad.add(-record["t"], text, record["t"], record["id"])
        return decide(
            self,
            bad,
            0,
            "tasks of somebody else were listed",
            self._thin(facts),
            quantities={
                "lists": sum(self._lists.values()),
                "tasks_listed": len(self._listed),
                "of_others": len(foreign),
                "starts_unanswered": len(self._unanswered),
            },
            bound="0 tasks",
        )

    def _too_many(self, lists: list[Record]) -> bool:
        """Tell whether unknown tasks were listed before as many unanswered starts were sent."""
        listed, sent = sorted(record["t"] for record in lists), sorted(self._unanswered)
        return len(listed) > len(sent) or any(t < s for t, s in zip(listed, sent, strict=False))

    def _thin(self, facts: Facts) -> str:
        if missing := missing_workers(self._lists, facts.workers, "list of all tasks"):
            return missing
        return "" if self._listed.keys() & self._given else "no list held a task of the load's"
