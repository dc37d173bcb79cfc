"""What a run shows while it goes on: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from harness.clock import RunClock

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

FACTS_EVERY_S = 5.0
KNOWN_FACTS = ("users", "ops", "ops_per_s", "errors", "fault")
_NO_LOAD = ("plan", "deploy", "collect", "teardown", "judge", "report")
_WORDS = {"ops_per_s": "ops/s"}


def _spoken(key: str, value: Any) -> str:
    if key == "fault":
        return f"fault: {value}"
    number = f"{value:,.0f}" if isinstance(value, float) else str(value)
    return f"{number} {_WORDS.get(key, key.replace('_', ' '))}"


class Progress:
    """Tells a reader the phase, the elapsed time, the load and the current fault of one run.

    `update(ops=…, errors=…, users=…, fault=…)` may be called as often as one likes: a terminal
    shows the last values, a plain stream gets a line when the fault changes and every 5 s.
    `ops` is a running count; the rate is made from it here.
    """

    def __init__(
        self, title: str = "", stream: TextIO | None = None, live: bool | None = None
    ) -> None:
        self.title = title
        self._stream = stream or sys.stderr
        self._clock = RunClock()
        self._phase = "start"
        self._facts: dict[str, Any] = {}
        self._ops_at: tuple[float, float] | None = None
        self._said_at = 0.0
        self._live: Live | None = None
        if self._stream.isatty() if live is None else live:
            self._live = self._start_live()

    def phase(self, name: str) -> None:
        """Enter a phase: plan, deploy, prepare, warmup, load, quiesce, collect, teardown."""
        self._phase = name
        if name in _NO_LOAD:
            self._facts, self._ops_at = {}, None
        self._said_at = self._clock.now()
        self._say(f"phase {name}")

    def update(self, **facts: Any) -> None:
        """Replace facts; a value of None removes the fact."""
        before = self._facts.get("fault")
        self._rate(facts.get("ops"))
        self._facts.update(facts)
        self._facts = {key: value for key, value in self._facts.items() if value is not None}
        after = self._facts.get("fault")
        if after != before:
            self._say(f"fault: {after}" if after else f"fault over: {before}")
        if self._clock.now() - self._said_at >= FACTS_EVERY_S:
            self._said_at = self._clock.now()
            self._say(self.facts)

    def note(self, text: str) -> None:
        """Say something once, above the live line."""
        self._say(text)

    def close(self) -> None:
        """End the live line; calling twice does no harm."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    @property
    def facts(self) -> str:
        """Return the current facts as words."""
        return ", ".join(_spoken(key, self._facts[key]) for key in self._ordered())

    def _ordered(self) -> list[str]:
        """Return the keys to tell: the known ones in order, then others that are not zero."""
        known = [key for key in KNOWN_FACTS if key in self._facts]
        return known + [key for key in self._facts if key not in KNOWN_FACTS and self._facts[key]]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __rich__(self) -> Text:
        from rich.text import Text

        line = Text.assemble((f"{self.title} ", "bold"), (f"{self._phase} ", "cyan"))
        line.append(f"{self._clock.now():5.1f} s  ", "dim")
        for key in self._ordered():
            if key == "ops" or key not in KNOWN_FACTS:
                continue  # a terminal may have 80 columns, and the fault must fit
            bad = key == "fault" or (key == "errors" and self._facts[key])
            line.append(f" {_spoken(key, self._facts[key])} ", "bold yellow" if bad else "")
        line.no_wrap, line.overflow = True, "ellipsis"
        return line

    def _start_live(self) -> Live:
        from rich.console import Console
        from rich.live import Live

        console = Console(file=self._stream, force_terminal=True)
        live = Live(
            console=console,
            get_renderable=self.__rich__,
            refresh_per_second=8,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        live.start()
        return live

    def _rate(self, ops: float | None) -> None:
        """Make a rate from two counts at least half a second apart."""
        if ops is None:
            return
        now = self._clock.now()
        if self._ops_at is None:
            self._ops_at = (now, ops)
        elif now - self._ops_at[0] >= 0.5:
            then, count = self._ops_at
            self._facts["ops_per_s"] = max(0.0, (ops - count) / (now - then))
            self._ops_at = (now, ops)

    def _say(self, text: str) -> None:
        if not text:
            return
        if self._live is not None:
            self._live.console.print(
                f"{self._clock.now():6.1f} s  {text}", highlight=False, markup=False, style="dim"
            )
            return
        stamp = time.strftime("%H:%M:%S")
        title = f"{self.title}: " if self.title else ""
        print(f"{stamp} {self._clock.now():6.1f} s  {title}{text}", file=self._stream, flush=True)


class Silent(Progress):
    """Says nothing; for `--quiet` and tests."""

    def __init__(self) -> None:
        super().__init__(live=False)

    def _say(self, text: str) -> None:
        pass
