"""Received tokens as runs: consecutive numbers of one stream on one socket, one record a run."""

from __future__ import annotations

from collections.abc import Iterator

from harness.history.writer import HistoryWriter

_FIRST, _LAST, _T0, _T = range(4)


class TokenRuns:
    """Folds the token texts that reach one socket into `run` records.

    The provider writes `NAME:n ` for token n, and a target may merge several tokens into one
    delta or cut one in two. A gap, a repeat or a step back ends the run and begins another.
    """

    def __init__(self, socket: str, writer: HistoryWriter) -> None:
        self._socket = socket
        self._writer = writer
        self._open: dict[str, list[float]] = {}
        self._cut: dict[str, str] = {}  # message id → the beginning of a token cut in two
        self.foreign = 0  # words that are no token

    def feed(self, message_id: str, text: str, t: float) -> None:
        """Take the text of one delta, received at `t` run seconds."""
        if message_id in self._cut or not text.endswith(" "):
            text = self._complete(message_id, text)
        for name, number in self._tokens(text):
            self._take(name, number, t)

    def end(self, name: str, message_id: str) -> None:
        """Write the open run of a stream that has ended."""
        if cut := self._cut.pop(message_id, ""):
            for other, number in self._tokens(cut):
                self._take(other, number, self._writer.clock.now())
        if run := self._open.pop(name, None):
            self._write(name, run)

    def flush(self) -> None:
        """Write every open run: the socket is lost, or the load ends."""
        for name, run in self._open.items():
            self._write(name, run)
        self._open.clear()

    def _complete(self, message_id: str, text: str) -> str:
        """Return whole tokens only; keep what follows the last space for the next delta."""
        whole, space, rest = (self._cut.pop(message_id, "") + text).rpartition(" ")
        if rest:
            self._cut[message_id] = rest
        return whole + space

    def _tokens(self, text: str) -> Iterator[tuple[str, int]]:
        for word in text.split():
            name, colon, number = word.rpartition(":")
            if colon and number.isdecimal():
                yield name, int(number)
            else:
                self.foreign += 1

    def _take(self, name: str, number: int, t: float) -> None:
        run = self._open.get(name)
        if run is not None:
            if number == run[_LAST] + 1:
                run[_LAST], run[_T] = number, t
                return
            self._write(name, run)
        self._open[name] = [number, number, t, t]

    def _write(self, name: str, run: list[float]) -> None:
        self._writer.record(
            "run",
            t=run[_T],
            stream=name,
            socket=self._socket,
            first=run[_FIRST],
            last=run[_LAST],
            t0=run[_T0],
        )
