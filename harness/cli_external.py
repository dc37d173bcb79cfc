"""The flags of `harness run` about a deployment that already runs, as one argument `flags`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

FILE = click.Path(dir_okay=False, path_type=Path)
OPTIONS = (
    click.option("--external", type=FILE, metavar="FILE", help="A deployment that runs already."),
    click.option("--url", multiple=True, metavar="URL", help="Of each worker of it, or of one."),
    click.option("--admin", metavar="EMAIL", help="Makes the accounts; see docs/external.md."),
    click.option("--accounts", type=FILE, metavar="FILE", help="Existing accounts instead."),
    click.option("--redis", multiple=True, metavar="URL", help="For probes of it."),
    click.option("--provider", metavar="URL", help="Where it expects its provider: answer there."),
    click.option("--model", metavar="NAME", help="Chat with this model of its own provider."),
    click.option(
        "--allow-host", multiple=True, metavar="HOST", help="May be loaded, if not local."
    ),
    click.option(
        "--max-rate", type=click.FloatRange(min=1), metavar="N", help="Requests/s at most."
    ),
    click.option("--without-faults", is_flag=True, help="Run a scenario's load alone."),
)


def external_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the flags; the command gets them as `flags`."""

    @functools.wraps(command)
    def collected(**choices: Any) -> int:
        from harness.targets.external.description import Flags

        mine = {field.name: choices.pop(field.name) for field in fields(Flags)}
        return command(**choices, flags=Flags(**mine))

    return functools.reduce(lambda made, add: add(made), reversed(OPTIONS), collected)
