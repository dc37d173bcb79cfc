"""summary.json: the judgement for programs.

| key | meaning |
|---|---|
| schema | 1; changes when a key changes its meaning or goes |
| scenario, seed, topology, workers, target | what ran |
| verdict | `pass`, `fail` or `unknown`: what the evidence says |
| expected | the verdict that the scenario expects |
| outcome | `as_expected` or `not_as_expected` |
| surprise | what was red, or not, against what `expected: fail` names; empty when nothing was |
| exit_code | 0, 1, 2 or 5, of this scenario alone |
| headline | the verdict in one sentence |
| findings | list of guarantees: name, family, sentence, verdict, applicable, reason, bound, quantities, examples (text, t in seconds since the run's base, operations: ids in the history) |
| statistics | what was counted beside the guarantees |
| rerun | the command that runs the same plan again |
"""  # noqa: E501  # the format table

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import orjson

from harness.report.words import code_of, headline
from harness.verdict import ExitCode

if TYPE_CHECKING:
    from harness.checks.judge import Judgement
    from harness.report.saved import SavedRun

SCHEMA = 1


def summarise(saved: SavedRun, judgement: Judgement) -> dict[str, Any]:
    """Return the content of summary.json."""
    code = code_of(judgement)
    as_expected = code is ExitCode.AS_EXPECTED
    return {
        "schema": SCHEMA,
        "scenario": saved.name,
        "seed": saved.seed,
        "topology": saved.run.get("topology", saved.scenario.get("topology")),
        "workers": saved.run.get("workers", saved.scenario.get("workers")),
        "target": saved.run.get("target"),
        "verdict": str(judgement.verdict),
        "expected": str(judgement.expected),
        "outcome": "as_expected" if as_expected else "not_as_expected",
        "surprise": judgement.surprise,
        "exit_code": int(code),
        "headline": headline(judgement),
        "findings": [asdict(finding) for finding in judgement.findings],
        "statistics": judgement.statistics or {},
        "rerun": saved.rerun,
    }


def to_json(saved: SavedRun, judgement: Judgement) -> bytes:
    """Return summary.json's bytes."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(summarise(saved, judgement), option=options, default=str)
