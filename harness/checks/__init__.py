"""Guarantees: single-pass folds over the history, one family per file."""

from __future__ import annotations

from harness.checks import (
    agreement,
    answers,
    connections,
    coverage,
    deaf,
    delivery,
    handshakes,
    liveness,
    logs,
    own_tasks,
    parts,
    presence,
    readiness,
    session_ends,
    sessions,
    sockets,
    tasks,
    traces,
)
from harness.checks.base import Check

# in the order of `vocabulary.GUARANTEES`
CHECKS: tuple[type[Check], ...] = (
    sessions.SignInHonoured,
    sessions.SignOutHonoured,
    sessions.SignOutStays,
    sessions.SessionReadYourWrites,
    session_ends.SessionStaysRemoved,
    sessions.SessionIsOwn,
    tasks.StopEndsTask,
    tasks.StopIsTruthful,
    tasks.FinishedUnlisted,
    tasks.RunningListed,
    tasks.NoUnexplainedEnd,
    own_tasks.TasksAreOwn,
    delivery.TokensExactlyOnce,
    delivery.StreamEndTold,
    delivery.ResyncHints,
    deaf.DeafTime,
    deaf.CanariesDelivered,
    connections.ConnectionsBack,
    connections.ConnectionsKept,
    sockets.SocketsKept,
    handshakes.HandshakesKept,
    presence.NobodyLingers,
    presence.UsageEnds,
    agreement.ConfigAgrees,
    agreement.LimitHeld,
    agreement.ModelListWhole,
    agreement.ModelListFresh,
    liveness.LoopStall,
    liveness.HealthAnswers,
    liveness.ReadyTruthful,
    readiness.ReadyMeansWorking,
    logs.LogsBounded,
    liveness.Recovery,
    liveness.FaultsRiddenOut,
    liveness.OthersUndisturbed,
    answers.RequestsEnd,
    traces.TracesReachRedis,
    traces.StopTraceCrosses,
    traces.AnswerTraceCrosses,
    coverage.FaultHappened,
    coverage.EnoughLoad,
    coverage.LoadHealthy,
    coverage.WorkersAlive,
    parts.HarnessAlive,
)


def all_checks() -> list[Check]:
    """Return a fresh instance of every check, in the order of `vocabulary.GUARANTEES`."""
    return [check() for check in CHECKS]
