"""What a run's master and its load machines tell each other, over Locust's own link.

| message | from | data |
|---|---|---|
| h-hello | machine | version: of its harness; from now on it understands the others |
| h-clock | master | n: answer at once |
| h-clock | machine | n, t: its CLOCK_MONOTONIC |
| h-begin | master | number, of, plan, accounts, setup: what a load process needs |
| h-ready | machine | its sockets are connected |
| h-start | master | t0: load second 0, in run seconds |
| h-status | machine | status: the status file of its load process |
| h-history | machine | data: the next bytes of its history file |
| h-ended | machine | status: exit status of its load process; log: the end of its log |
| h-stop | master | end the load early, with its history flushed |
| h-over | master | nothing more is wanted |
"""

from __future__ import annotations

HELLO, CLOCK, BEGIN, READY, START = "h-hello", "h-clock", "h-begin", "h-ready", "h-start"
STATUS, HISTORY, ENDED = "h-status", "h-history", "h-ended"
STOP, OVER = "h-stop", "h-over"
DEFAULT_PORT = 5557  # Locust's own
CHUNK = 256 * 1024  # bytes of a history file in one message
