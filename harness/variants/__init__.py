"""The main job's scenarios on every way of securing Redis, on both hosts, and one table.

| file | what it does |
|---|---|
| `matrix.yaml` | which scenarios, variants and hosts, and at which size |
| `cells.py` | what is to be run |
| `record.py` | reports/deployments.json: what each run found, and what is still missing |
| `table.py` | the tables of docs/secured.md |
| `__main__.py` | the command behind `make deployments` |
"""
