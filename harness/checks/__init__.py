"""Guarantees: single-pass folds over the history, one family per file."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.checks.base import Check

_NAMES = (
    "sign-in-honoured",
    "sign-out-honoured",
    "sign-out-stays",
    "session-read-your-writes",
    "stop-ends-task",
    "stop-is-truthful",
    "finished-unlisted",
    "running-listed",
    "no-unexplained-end",
    "tokens-exactly-once-in-order",
    "stream-end-told",
    "resync-hints-bounded",
    "deaf-time",
    "canaries-delivered",
    "connections-bounded-and-back",
    "loop-stall",
    "health-answers",
    "ready-truthful",
    "recovery",
    "fault-really-happened",
    "enough-load",
    "load-healthy",
    "workers-alive",
)


def guarantee_names() -> list[str]:
    """Return the names of all guarantees, without importing the checks."""
    return list(_NAMES)


def all_checks() -> list[Check]:
    """Return a fresh instance of every check, in the order of the names."""
    from harness.checks import connections, coverage, deaf, delivery, liveness, sessions, tasks

    return [
        sessions.SignInHonoured(),
        sessions.SignOutHonoured(),
        sessions.SignOutStays(),
        sessions.SessionReadYourWrites(),
        tasks.StopEndsTask(),
        tasks.StopIsTruthful(),
        tasks.FinishedUnlisted(),
        tasks.RunningListed(),
        tasks.NoUnexplainedEnd(),
        delivery.TokensExactlyOnce(),
        delivery.StreamEndTold(),
        delivery.ResyncHints(),
        deaf.DeafTime(),
        deaf.CanariesDelivered(),
        connections.ConnectionsBack(),
        liveness.LoopStall(),
        liveness.HealthAnswers(),
        liveness.ReadyTruthful(),
        liveness.Recovery(),
        coverage.FaultHappened(),
        coverage.EnoughLoad(),
        coverage.LoadHealthy(),
        coverage.WorkersAlive(),
    ]
