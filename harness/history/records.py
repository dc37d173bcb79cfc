"""The record format: one JSON object a line, `t` in seconds since the run's base.

Every file starts with a header; every file has one writer; readers merge by `t`.

| k | other fields | meaning |
|---|---|---|
| header | source, base, wall, offset, error | who wrote the file; base is CLOCK_MONOTONIC; offset and error (s) bring another machine's clock to this one's |
| invoke | id, op, worker, args… | an operation was sent; `id` is unique in the run; `trace` is the id of its trace, when it has one |
| ok, fail, info | id, op, result… or error | it happened; it definitely did not; nobody knows (may still happen) |
| run | stream, socket, first, last, t0 | consecutive tokens `first…last` of one stream reached one socket, from `t0` to `t`; a gap, repeat or reordering starts a new run |
| end | stream, socket, event | the socket was told the stream's end: event `done`, `cancel` or `error` |
| resync | socket | the socket was told to fetch anew |
| socket | socket, event, reason | a socket was opened, closed or lost outside an operation |
| stream | stream, event, sent, cause | ground truth from the provider: event `open` or `close`; cause `finished` or `client_closed`; `sent` is how many tokens |
| canary | event, origin, at, n, sent | event `heard`: canary n from worker `origin`, posted at `sent`, reached the socket on worker `at` |
| fault | id, event, name, kind, target, nodes, workers, evidence | event `inject`, `confirm`, `heal`, `confirm_heal` or `error` |
| switch | node, observer, why | the instant a new primary could serve (`+switch-master`, slots shown, first PING) |
| role | node, role | a node's role as seen over a direct connection, on change |
| sample | probe, values… | probe `worker` (worker, connections, rss, fds, threads, cpu, log: bytes), `redis` (node, clients, memory, ops, role, …), `health` (worker, path, status, ms; of a refusal its detail), `process` (name, cpu, rss; of everything but the workers; cpu of name `machine` is that of all programs), `collector` (spans, dropped, refused, forwarded, not_forwarded: counts so far), `neighbour` (streams, operations, failed: what the neighbour did) |
| stall | worker, ms, raw_ms | the worst loop stall of the last period, less the thread's run delay and what the hypervisor took |
| exit | name, status, expected | a process of the run ended; `expected` when a fault, the end of load or the harness meant it to |
| phase | name | plan, deploy, prepare, warmup, load, quiesce, collect, teardown; `t` is its start |
| focus | event | event `begin` or `end` of a focus window |
| span | span, parent, trace, t0, name, kind, worker, attributes | of a worker's trace, from `t0` to `t`: kind `server`, `client`, `consumer` or `internal`; `error` when it failed; `instance` instead of worker when that is not one of ours |
| note | text, level | anything a reader of the log should see |

Operations (`op`), their arguments and results:

| op | args | result of ok |
|---|---|---|
| sign_in | account | token |
| sign_out | account, token | |
| token_probe | token, when (`before`, `after`, `again`, `final`) | alive |
| me | token, scheduled | alive; worker where the balancer chose it |
| session_write | session, value | |
| session_read | session | value and owner (null when absent) |
| hang_up | session, after_s | answered: the answer had begun when the user left |
| connect | socket, user | sid |
| chat_start | stream, user, socket, tokens | chat_id, tasks |
| list_tasks | stream, chat_id | tasks |
| list_all_tasks | | tasks |
| stop | stream, by (`task` or `chat`), outlives | state |
| event_post | n, origin | |
| config_write | value | |
| config_read | when | value (null when none of the load's) |
| sign_in_try | account, wave | admitted |
| models_refresh | version (that the provider lists now) | versions (how many models of which), models (in all) |
| models_read | when | versions, models |
| session_begin, session_late | session, value | |
| session_end | session | |
| session_again | session (whose cookie is used) | value (null when nothing is left) |
| visit | guest | lost (whether the socket was) |
| online_read | guest | online |
| usage_read | guest | in_use |
| poll_connect | client, sticky | state (`connected`, or `refused` at the handshake) |

An operation that waited for a free connection has `sent` in its completion: when it really left.

`token`, `session`, `stream` and `socket` are short names made by the harness, never secrets.
"""

from __future__ import annotations

from typing import Any

Record = dict[str, Any]

INVOKE, OK, FAIL, INFO = "invoke", "ok", "fail", "info"
COMPLETIONS = frozenset({OK, FAIL, INFO})
NO_OUTCOME = "no-outcome"  # error of an operation whose end the history does not have


def due(asked: Record) -> float:
    """Return when an invoked operation was due: it queued from then on, however late it was sent."""
    invoked: float = asked["t"]
    return min(asked.get("scheduled") or invoked, invoked)
