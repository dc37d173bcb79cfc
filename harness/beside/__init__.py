"""The same plans on a real Open WebUI and on the bundled runtime, again and again, and a table.

| file | what it does |
|---|---|
| `plan.yaml` | which scenarios, at which size, on which targets |
| `cells.py` | what is to be run, and what is still missing |
| `record.py` | reports/open-webui.json: what each run found |
| `table.py` | the tables of docs/open-webui.md |
| `__main__.py` | the command |
"""
