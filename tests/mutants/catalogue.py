"""What each mutant breaks, the scenario that catches it, and what must and may be red."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One broken runtime: a module of this folder that patches the runtime and runs its CLI.

    `must` are the guarantees that have to be red; `may` those that can be red with them, because
    the same defect shows there too. Anything else red is a failure of the harness. `fast` ones
    run in `make test`.
    """

    name: str
    scenario: str
    must: frozenset[str]
    may: frozenset[str] = frozenset()
    fast: bool = False
    settings: tuple[str, ...] = ()  # --set key=value, to make a fast run of a longer scenario

    @property
    def module(self) -> str:
        """Return the module that runs the broken runtime."""
        return f"tests.mutants.{self.name.replace('-', '_')}"


# Shorter runs of longer scenarios. The unbroken runtime has to pass them too (test_controls).
SHORT_BASELINE = (
    *("warmup_s=1", "duration_s=6", "load.users=30", "load.chats.tokens=30"),
    "enough={stops: 40, sign_outs: 12, canaries_per_pair: 16}",
)
SHORT_AGREEMENT = (
    *("warmup_s=1", "duration_s=9", "load.users=10", "load.chats.tokens=20", "workers=2"),
    "focus={stops_per_s: 2, sign_outs_per_s: 1, canaries_per_s: 1, config_changes_per_s: 1, "
    "sign_in_bursts_per_s: 0.4, model_refreshes_per_s: 0.5}",
    "enough={}",
)
SHORT_RESTART = (
    "faults=[{at: 1.5, kind: kill, target: primary, for_s: 1.5, restart: kept}]",
    *("warmup_s=1", "duration_s=7.5", "load.users=30", "load.chats.tokens=30"),
    "bounds.connections_settle_s=3",
    "enough={stops: 60, sign_outs: 16, canaries_per_pair: 30}",
)
SHORT_CUT = (
    *("faults.0.at=1.5", "faults.0.for_s=2", "focus.stops_per_s=10"),
    *("warmup_s=1", "duration_s=8", "load.users=30", "load.chats.tokens=30"),
    "enough={stops: 40, sign_outs: 16, canaries_per_pair: 30}",
)
LONGER_CUT = (
    *("faults.0.at=1.5", "faults.0.for_s=5", "focus.stops_per_s=5", "bounds.request_s=3.5"),
    *("warmup_s=1", "duration_s=11", "load.users=20", "load.chats.tokens=30"),
    "enough={stops: 20, sign_outs: 12, canaries_per_pair: 30}",
)
# Two installations with prefixes of their own, as they should be.
SHORT_TWINS = (
    *("neighbour.environment={REDIS_KEY_PREFIX: other}", "expected_red=[]", "expected=pass"),
    *("warmup_s=1", "duration_s=8"),
    "focus={stops_per_s: 2, sign_outs_per_s: 1, canaries_per_s: 2, task_lists_per_s: 2}",
    "enough={streams: 4, neighbour_streams: 4}",
)
SHORT_TRACED = ("warmup_s=1", "duration_s=6", "enough={}")

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "sign-out-only-clears-cookie",
        "baseline-standalone",
        must=frozenset({"sign-out-honoured"}),
        fast=True,
        settings=SHORT_BASELINE,
    ),
    Mutant(
        "task-record-never-cleaned",
        "baseline-standalone",
        must=frozenset({"finished-unlisted"}),
        fast=True,
        settings=SHORT_BASELINE,
    ),
    Mutant(
        "config-change-stays-local",
        "baseline-standalone",
        must=frozenset({"config-agrees"}),
        # A refresh of model lists reaches the others as a change of the configuration.
        may=frozenset({"model-list-fresh"}),
        settings=SHORT_AGREEMENT,
    ),
    Mutant(
        "limit-per-worker",
        "baseline-standalone",
        must=frozenset({"limit-held"}),
        settings=SHORT_AGREEMENT,
    ),
    Mutant(
        "stale-model-list",
        "baseline-standalone",
        must=frozenset({"model-list-fresh"}),
        settings=SHORT_AGREEMENT,
    ),
    Mutant(
        "session-of-another-user",
        "baseline-standalone",
        must=frozenset({"session-is-own"}),
        # the other's counter is as good as any: it may be too old, or never written here
        may=frozenset({"session-read-your-writes"}),
        settings=SHORT_BASELINE,
    ),
    Mutant(
        "connection-per-command",
        "baseline-standalone",
        must=frozenset({"connections-kept"}),
        settings=SHORT_BASELINE,
    ),
    Mutant(
        "events-dropped-while-redis-down",
        "standalone-restart",
        must=frozenset({"tokens-exactly-once-in-order"}),
        # Canaries and the ends of answers are events as well; it is chance which of them fall
        # into the outage.
        may=frozenset({"canaries-delivered", "stream-end-told"}),
        fast=True,
        settings=SHORT_RESTART,
    ),
    Mutant(
        "connection-leaked-per-reconnect",
        "standalone-restart",
        must=frozenset({"connections-bounded-and-back"}),
        fast=True,
        settings=SHORT_RESTART,
    ),
    Mutant(
        "sockets-closed-while-redis-down",
        "standalone-restart",
        must=frozenset({"sockets-kept-and-back"}),
        settings=SHORT_RESTART,
    ),
    Mutant(
        "listener-does-not-resubscribe",
        "sentinel-primary-crash",
        must=frozenset({"deaf-time", "canaries-delivered"}),
        # A deaf worker passes on neither words nor ends of answers that another worker makes, and
        # says of itself that it is not ready, long after the fault.
        may=frozenset({"tokens-exactly-once-in-order", "stream-end-told", "ready-truthful"}),
    ),
    Mutant(
        "dead-owner-not-reaped",
        "worker-crash",
        must=frozenset({"finished-unlisted", "stream-end-told"}),
    ),
    Mutant(
        "stop-by-pubsub-only",
        "one-worker-reset",
        must=frozenset({"stop-ends-task"}),
        settings=SHORT_CUT,
    ),
    Mutant(
        "sign-out-acknowledged-without-database",
        "database-restart",
        must=frozenset({"sign-out-honoured"}),
        settings=("workers=2", "load.users=20"),
    ),
    Mutant(
        "requests-wait-for-redis",
        "one-worker-held",
        must=frozenset({"requests-end"}),
        settings=LONGER_CUT,
    ),
    Mutant(
        "handshake-tells-everybody",
        "regressions/reconnect-herd",
        must=frozenset({"sockets-kept-and-back"}),
        # What stands between a socket and its return stands before every other request as well.
        may=frozenset({"requests-end", "health-answers", "loop-stall"}),
        settings=("target=runtime",),
    ),
    Mutant(
        "sync-redis-on-loop",
        "one-worker-held",
        must=frozenset({"loop-stall"}),
        # While the links are held every request blocks for half a second; /health waits its turn.
        may=frozenset({"health-answers"}),
        settings=SHORT_CUT,
    ),
    Mutant(
        "events-without-trace",
        "traced-standalone",
        must=frozenset({"answer-trace-crosses"}),
        fast=True,
        settings=SHORT_TRACED,
    ),
    Mutant(
        "stop-without-trace",
        "traced-standalone",
        must=frozenset({"stop-trace-crosses"}),
        settings=SHORT_TRACED,
    ),
    Mutant(
        "tasks-listed-without-prefix",
        "negative/twins-on-one-prefix",
        must=frozenset({"tasks-are-own"}),
        settings=SHORT_TWINS,
    ),
    Mutant(
        "commands-lose-their-trace",
        "traced-cluster",
        must=frozenset({"traces-reach-redis"}),
        settings=SHORT_TRACED,
    ),
)
