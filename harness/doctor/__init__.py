"""`harness doctor`: what is wrong with a deployment, before any load.

| file | what |
|---|---|
| `command.py` | the whole examination, and its exit code |
| `findings.py` | what a finding is, as text and as JSON |
| `variables.py` | rules over one environment file |
| `replicas.py` | what several environment files must have in common |
| `servers.py` | Redis, sentinels and database: asks `runtime check --json` |
| `live.py` | running replicas: do they answer, honour one token, hear each other |
| `transports.py` | WebSocket, polling and origins of a running replica |

Without flags it looks at this machine instead: `harness/deploy/doctor.py`.
"""
