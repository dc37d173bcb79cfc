"""The tables: for every scenario, which guarantees hold on which target, with their figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.beside.cells import Comparison, Key
from harness.beside.record import Run
from harness.pages import markdown_table
from harness.report.words import ICONS

MARKS = ("<!-- side by side -->", "<!-- end of side by side -->")
FIGURES: dict[str, str] = {  # guarantee → quantities in words; a range over the runs stands in each
    "sign-out-honoured": "{accepted_late} accepted late of {sign_outs} signed out",
    "sign-out-stays": "{undone} times accepted again, {sign_outs} sign-outs",
    "sign-in-honoured": "{refused} of {answers} refused",
    "stop-ends-task": "{late_or_never} of {stops} lost, {before_its_stream} before their stream",
    "finished-unlisted": "{listed_late} listed late",
    "running-listed": "{not_listed} of {lists} not listed",
    "no-unexplained-end": "{unexplained} of {ended} without a cause",
    "tokens-exactly-once-in-order": "{lost} lost and {duplicated} doubled of {tokens} tokens",
    "stream-end-told": "{not_told} of {ended} ends not told, {told_twice} told twice",
    "deaf-time": "deaf for {deaf_s_max} s",
    "canaries-delivered": "{lost_or_repeated} lost or doubled of {posted} posted",
    "connections-bounded-and-back": "{baseline_max} a worker at rest, {peak} at the peak",
    "sockets-kept-and-back": "{lost} of {sockets} sockets lost",
    "loop-stall": "stalled for {stall_ms_max} ms",
    "health-answers": "slowest answer {ms_max} ms",
    "recovery": "{failed_during_faults} failed in faults, {failed_otherwise} otherwise",
    "others-undisturbed": "{failed} failed on the others",
    "logs-bounded": "up to {kb_per_s_max} kB/s",
    "requests-end": "slowest answer {ended_s_max} s",
}
EVIDENCE = frozenset(  # what has to hold for a run to prove anything
    {"fault-really-happened", "enough-load", "load-healthy", "harness-alive"}
)
HARNESS = EVIDENCE | {"workers-alive"}
WORDS = ("fail", "unknown", "pass", "proved nothing")
Runs = Sequence[Run]


def tables(comparison: Comparison, runs: Iterable[Run]) -> str:
    """Return the page's part between the marks: an overview, claims, a table for each scenario."""
    known = current(comparison, runs)
    overview = _overview(comparison, known)
    known = {place: [run for run in found if proves(run)] for place, found in known.items()}
    parts = [overview, _claims(comparison, known)]
    parts += [_scenario(comparison, name, known) for name in comparison.scenarios]
    return "\n\n".join(part for part in parts if part)


def current(comparison: Comparison, runs: Iterable[Run]) -> dict[tuple[str, str], list[Run]]:
    """Return the runs of each scenario and target whose plan is still the present one."""
    found: dict[tuple[str, str], list[Run]] = {
        (case.scenario, case.target): [] for case in comparison.cases
    }
    contents: dict[tuple[str, int], Key] = {}
    cases = {(case.scenario, case.target): case for case in comparison.cases}
    for run in runs:
        case = cases.get((run.scenario, run.target))
        if case is None:
            continue
        place = (run.scenario, run.seed)
        contents.setdefault(place, case.key(run.seed))
        if contents[place][2] == run.content:
            found[run.scenario, run.target].append(run)
    return found


def _overview(comparison: Comparison, known: dict[tuple[str, str], list[Run]]) -> str:
    rows = []
    for name in comparison.scenarios:
        cells = [_verdicts(known[name, target]) for target in comparison.targets]
        rows.append([f"[{name}](../scenarios/{name}.yaml)", *cells])
    return "\n".join(markdown_table(["scenario", *comparison.targets], rows))


def _claims(comparison: Comparison, known: dict[tuple[str, str], list[Run]]) -> str:
    """Return what was measured before beside what the runs showed; empty without claims."""
    if not comparison.claims:
        return ""
    rows = []
    for claim in comparison.claims:
        sides = [known[claim.scenario, target] for target in comparison.targets]
        cells = [_cell(runs, claim.guarantee) for runs in sides]
        rows.append([claim.said, f"{claim.guarantee} of {claim.scenario}", *cells])
    header = ["measured before", "guarantee", *comparison.targets]
    return "\n".join(markdown_table(header, rows))


def proves(run: Run) -> bool:
    """Tell whether its faults happened and its load was enough; else red may be the machine."""
    return all(_verdict(run, guarantee) == "pass" for guarantee in EVIDENCE)


def _verdicts(runs: Runs) -> str:
    if not runs:
        return "not run"
    verdicts = [run.verdict if proves(run) else "proved nothing" for run in runs]
    said = [f"{verdicts.count(v)} {v}" for v in WORDS if v in verdicts]
    return ", ".join(said)


def _scenario(comparison: Comparison, name: str, known: dict[tuple[str, str], list[Run]]) -> str:
    """Return a scenario's table: a row for each guarantee that did not hold in every run."""
    sides = [known[name, target] for target in comparison.targets]
    if not any(sides):
        return ""
    guarantees = [g for g in _guarantees(sides) if g not in HARNESS]
    shown = [g for g in guarantees if any(_verdict(run, g) != "pass" for r in sides for run in r)]
    counts = ", ".join(f"{t}: {len(r)}" for t, r in zip(comparison.targets, sides, strict=True))
    lines = [f"### {name}", "", f"Runs: {counts}.", ""]
    rows = [[guarantee, *(_cell(runs, guarantee) for runs in sides)] for guarantee in shown]
    lines += markdown_table(["guarantee", *comparison.targets], rows)
    held = ", ".join(g for g in guarantees if g not in shown)
    return "\n".join([*lines, "", f"Held wherever it applies: {held or 'none'}."])


def _guarantees(sides: Iterable[Runs]) -> list[str]:
    return list(dict.fromkeys(name for runs in sides for run in runs for name in run.findings))


def _verdict(run: Run, guarantee: str) -> str:
    """Return a finding's verdict; one that does not apply breaks nothing."""
    return str(run.findings.get(guarantee, {"verdict": "pass"})["verdict"])


def _cell(runs: Runs, guarantee: str) -> str:
    """Return how often it held, and its figures over all runs."""
    if not runs:
        return "not run"
    if not any(guarantee in run.findings for run in runs):
        return "not applicable"
    verdicts = [_verdict(run, guarantee) for run in runs]
    said = [f"{ICONS[v]} {verdicts.count(v)} of {len(runs)}" for v in ICONS if v in verdicts]
    figures = _figures(runs, guarantee)
    return ", ".join(said) + (f": {figures}" if figures else "")


def _figures(runs: Runs, guarantee: str) -> str:
    """Return the words of FIGURES with the lowest and the highest quantities of the runs."""
    words = FIGURES.get(guarantee, "")
    found = [run.findings[guarantee]["quantities"] for run in runs if guarantee in run.findings]
    ranges = {name: _range([q[name] for q in found if name in q]) for q in found for name in q}
    try:
        return words.format_map(ranges)
    except KeyError:  # nothing was measured, as when no worker was heard at all
        return ""


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} … {high:g}"
