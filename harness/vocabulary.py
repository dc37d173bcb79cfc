"""The names a scenario may use: roles per topology, guarantees, bounds, minimum loads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import yaml

from harness.errors import did_you_mean

_COMMON_ROLES = ("primary", "all-nodes")
_REPLICA_ROLES = ("a-replica", "all-replicas")
_PURPOSES = ("primary-of:events", "primary-of:tasks", "primary-of:sessions")
NODE_ROLES: dict[str, tuple[str, ...]] = {
    "standalone": (*_COMMON_ROLES, *_PURPOSES),
    "sentinel": (
        *(*_COMMON_ROLES, *_REPLICA_ROLES, *_PURPOSES),
        *("a-sentinel", "all-sentinels", "a-minority"),
    ),
    "cluster": ("a-primary", "all-nodes", *_REPLICA_ROLES, *_PURPOSES, "a-minority"),
}
ALL_PEERS = "all-peers"  # of a partition: every other node and sentinel
MODELS_LISTED = 20  # by the provider, of one version at a time
WORKER_ROLES = ("all-workers", "a-worker", "worker-with-most-tasks")
GUARANTEES = (
    "sign-in-honoured",
    "sign-out-honoured",
    "sign-out-stays",
    "session-read-your-writes",
    "session-stays-removed",
    "session-is-own",
    "stop-ends-task",
    "stop-is-truthful",
    "finished-unlisted",
    "running-listed",
    "no-unexplained-end",
    "tasks-are-own",
    "tokens-exactly-once-in-order",
    "stream-end-told",
    "resync-hints-bounded",
    "deaf-time",
    "canaries-delivered",
    "connections-bounded-and-back",
    "connections-kept",
    "sockets-kept-and-back",
    "handshakes-kept",
    "nobody-lingers",
    "usage-ends",
    "config-agrees",
    "limit-held",
    "model-list-whole",
    "model-list-fresh",
    "loop-stall",
    "health-answers",
    "ready-truthful",
    "ready-means-working",
    "logs-bounded",
    "recovery",
    "faults-ridden-out",
    "others-undisturbed",
    "requests-end",
    "traces-reach-redis",
    "stop-trace-crosses",
    "answer-trace-crosses",
    "fault-really-happened",
    "enough-load",
    "load-healthy",
    "workers-alive",
    "harness-alive",
)
LOADS: dict[str, str] = {  # guarantee → the rate under `focus` without which it does not apply
    "config-agrees": "config_changes_per_s",
    "limit-held": "sign_in_bursts_per_s",
    "model-list-whole": "model_refreshes_per_s",
    "model-list-fresh": "model_refreshes_per_s",
    "session-stays-removed": "session_ends_per_s",
    "nobody-lingers": "visits_per_s",
    "usage-ends": "visits_per_s",
    "tasks-are-own": "task_lists_per_s",
}
TRACED = frozenset({"traces-reach-redis", "stop-trace-crosses", "answer-trace-crosses"})
ENOUGH: dict[str, str] = {
    "stops": "acknowledged stops inside focus",
    "sign_outs": "acknowledged sign-outs inside focus",
    "config_changes": "acknowledged changes of the configuration inside focus",
    "sign_in_tries": "attempts to sign in, admitted or denied, inside focus",
    "model_refreshes": "model lists made anew inside focus",
    "session_ends": "acknowledged sign-outs that end a session inside focus",
    "visits": "visits of guests that ended inside focus",
    "canaries_per_pair": "acknowledged canaries inside focus that a worker had to hear of another",
    "streams": "streams opened",
    "session_reads": "session reads answered",
    "requests_per_s": "operations a second over the load",
    "neighbour_streams": "streams that the neighbour's provider opened",
}


def default_bounds() -> dict[str, float]:
    """Return every default bound, from harness/bounds.yaml."""
    text = (Path(__file__).parent / "bounds.yaml").read_text(encoding="utf-8")
    bounds: dict[str, float] = yaml.safe_load(text)
    return bounds


def check_guarantee(name: str) -> None:
    """Raise ValueError when there is no such guarantee, naming the nearest."""
    check_name(name, GUARANTEES, "guarantee")


def check_name(name: str, known: Iterable[str], what: str) -> None:
    """Raise ValueError when a name is not among those known, naming the nearest."""
    names = list(known)
    if name not in names:
        hint = did_you_mean(name, names)
        raise ValueError(f"no such {what} `{name}`; {hint}known: {', '.join(sorted(names))}")
