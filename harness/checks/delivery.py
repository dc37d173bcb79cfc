"""Delivery: tokens exactly once and in order, ends told, resync hints bounded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from harness.checks.base import Check, Facts, Finding
from harness.checks.facts import end_of
from harness.checks.measure import Worst, decide, spread, tab_of
from harness.history.records import INVOKE, Record
from harness.targets.base import PROVIDER, RESYNC_HINT
from harness.verdict import Verdict

ARRIVAL_S = 2.0  # what the provider sent this near to the end of the run may still be on its way


@dataclass
class Received:
    """What one socket got of one stream: the next number expected, and the gaps below it."""

    expected: int = 0
    gaps: list[tuple[int, int]] = field(default_factory=list)
    duplicated: int = 0
    reordered: int = 0
    t: float = 0.0

    def take(self, first: int, last: int, t: float) -> None:
        """Take a run of consecutive numbers."""
        self.t = t
        if first < self.expected:
            self._late(first, min(last, self.expected - 1))
        elif first > self.expected:
            self.gaps.append((self.expected, first - 1))
        self.expected = max(self.expected, last + 1)

    def _late(self, first: int, last: int) -> None:
        """Count numbers below the expected: reordered where they fill a gap, else duplicated."""
        left: list[tuple[int, int]] = []
        filled = 0
        for low, high in self.gaps:
            a, b = max(low, first), min(high, last)
            if a > b:
                left.append((low, high))
                continue
            filled += b - a + 1
            left += [(x, y) for x, y in ((low, a - 1), (b + 1, high)) if x <= y]
        self.gaps = left
        self.reordered += filled
        self.duplicated += last - first + 1 - filled

    @property
    def missing(self) -> int:
        """Return how many numbers below the last received never came."""
        return sum(high - low + 1 for low, high in self.gaps)


@dataclass
class _Chat:
    """One acknowledged chat: its socket, and what the provider says of its stream."""

    socket: str
    user: int | None
    started: float
    id: str
    closed: float | None = None
    cause: str = ""
    sent: int = 0
    told: str = ""
    told_at: float = 0.0
    told_times: int = 0


class _Chats(Check):
    """Base: acknowledged chats with their provider streams; interrupted sockets are known."""

    family = "delivery"

    def __init__(self) -> None:
        self._chats: dict[str, _Chat] = {}
        self._lost: dict[str, float] = {}
        self._refused: set[str] = set()

    def _chat(self, record: Record) -> None:
        """Fold chat_start, stream and socket records."""
        kind = record["k"]
        if kind == "invoke":
            chat = _Chat(record["socket"], record.get("user"), record["t"], record["id"])
            self._chats[record["stream"]] = chat
        elif kind in ("fail", "info"):
            self._refused.add(record["invoke"]["stream"])
        elif kind == "socket":
            if record["event"] == "lost":
                self._lost[record["socket"]] = record["t"]
        elif record["event"] == "close" and record["stream"] in self._chats:
            chat = self._chats[record["stream"]]
            chat.closed, chat.cause, chat.sent = record["t"], record["cause"], record["sent"]

    def _interrupted(self, chat: _Chat) -> bool:
        """Tell whether the socket was lost before the stream's end could reach it."""
        lost = self._lost.get(chat.socket)
        if lost is None:
            return False
        return chat.closed is None or lost < chat.closed + ARRIVAL_S

    def _due(self, name: str, chat: _Chat, facts: Facts) -> bool:
        """Tell whether everything of the stream must have arrived by the end of the run."""
        if name in self._refused or chat.closed is None:
            return False
        return chat.closed < end_of(facts) - ARRIVAL_S


class TokensExactlyOnce(_Chats):
    """Every socket gets 0, 1, 2, … of its stream, up to what the provider sent."""

    name = "tokens-exactly-once-in-order"
    sentence = "Every word of an answer arrives exactly once and in order."
    needs = frozenset({PROVIDER})
    kinds = frozenset({"invoke", "fail", "info", "stream", "socket", "run", "resync"})
    ops = frozenset({"chat_start", "connect"})

    def __init__(self) -> None:
        super().__init__()
        self._user: dict[str, int] = {}  # socket → whose it is
        self._got: dict[str, dict[str, Received]] = {}
        self._told: dict[str, float] = {}  # socket → last resync hint
        self._tokens = 0

    def feed(self, record: Record) -> None:
        """Fold one record."""
        kind = record["k"]
        if kind == "run":
            sockets = self._got.setdefault(record["stream"], {})
            got = sockets.setdefault(record["socket"], Received())
            got.take(record["first"], record["last"], record["t"])
            self._tokens += record["last"] - record["first"] + 1
        elif kind == "resync":
            self._told[record["socket"]] = record["t"]
        elif record.get("op") == "connect":
            if record["k"] == INVOKE:
                self._user[record["socket"]] = record["user"]
        else:
            self._chat(record)

    def judge(self, facts: Facts) -> Finding:
        """Return the finding: each of lost, duplicated and reordered has its own bound."""
        worst, counts = Worst(), {"lost": 0, "duplicated": 0, "reordered": 0}
        apart = {"interrupted_streams": 0, "resync_told": 0, "told_to_others": 0}
        for name, chat in self._chats.items():
            sockets = self._got.get(name, {})
            got = sockets.get(chat.socket, Received())
            if strangers := self._strangers(chat, sockets):
                apart["told_to_others"] += 1
                text = f"words of stream {name}, of user {chat.user}, reached {strangers[0]}"
                worst.add(float("inf"), text, sockets[strangers[0]].t, name, chat.id)
            if self._interrupted(chat) or self._moved(chat, sockets):
                apart["interrupted_streams"] += 1
                continue
            lost = got.missing + self._tail(name, chat, got, facts)
            if lost and self._told.get(chat.socket, -1.0) >= chat.started:
                apart["resync_told"] += lost
                lost = 0
            self._count(counts, worst, name, chat, got, lost)
        quantities = {"streams": len(self._chats), "tokens": self._tokens, **counts, **apart}
        return self._finding(facts, counts, quantities, worst)

    def _strangers(self, chat: _Chat, sockets: Iterable[str]) -> list[str]:
        """Return sockets of other users that words of the chat reached."""
        return [s for s in sockets if s in self._user and chat.user not in (None, self._user[s])]

    def _moved(self, chat: _Chat, sockets: Iterable[str]) -> bool:
        """Tell whether the chat's words went on to a later connection of the same tab."""
        return any(s != chat.socket and tab_of(s) == tab_of(chat.socket) for s in sockets)

    def _tail(self, name: str, chat: _Chat, got: Received, facts: Facts) -> int:
        """Return how many tokens at the end are missing of a stream that reached its end."""
        if chat.cause != "finished" or not self._due(name, chat, facts):
            return 0
        return max(0, chat.sent - got.expected)

    def _count(
        self, counts: dict[str, int], worst: Worst, name: str, chat: _Chat, got: Received, lost: int
    ) -> None:
        found = {"lost": lost, "duplicated": got.duplicated, "reordered": got.reordered}
        if not any(found.values()):
            return
        for what, count in found.items():
            counts[what] += count
        words = ", ".join(f"{count} {what}" for what, count in found.items() if count)
        gaps = f", gaps {got.gaps[:3]}" if got.gaps else ""
        text = f"stream {name} on {chat.socket}: {words}{gaps}"
        worst.add(sum(found.values()), text, got.t or chat.started, name, chat.id)

    def _finding(
        self, facts: Facts, counts: dict[str, int], quantities: dict[str, int], worst: Worst
    ) -> Finding:
        over = [
            f"{count} tokens {what} (bound {facts.bounds[f'tokens_{what}']:g})"
            for what, count in counts.items()
            if count > facts.bounds[f"tokens_{what}"]
        ]
        if strayed := quantities["told_to_others"]:
            over.append(f"words of {strayed} streams reached other users (bound 0)")
        thin = "" if self._tokens else "no token was received"
        if 0 < quantities["streams"] <= quantities["interrupted_streams"]:
            thin = "the socket of every stream was lost on the way"
        verdict = Verdict.FAIL if over else Verdict.UNKNOWN if thin else Verdict.PASS
        bounds = (f"{facts.bounds[f'tokens_{what}']:g} {what}" for what in counts)
        return self.finding(
            verdict,
            quantities=quantities,
            bound="≤ " + ", ".join(bounds),
            reason=", ".join(over) or thin,
            examples=worst.examples,
        )


class StreamEndTold(_Chats):
    """The socket hears done or cancel once the stream is over."""

    name = "stream-end-told"
    sentence = "When an answer ends or is stopped, its user is told."
    needs = frozenset({PROVIDER})
    kinds = frozenset({"invoke", "fail", "info", "stream", "socket", "end"})
    ops = frozenset({"chat_start"})

    def feed(self, record: Record) -> None:
        """Fold one record."""
        if record["k"] != "end":
            self._chat(record)
            return
        chat = self._chats.get(record["stream"])
        if chat is not None and tab_of(record["socket"]) == tab_of(chat.socket):
            if not chat.told:
                chat.told, chat.told_at = record["event"], record["t"]
            chat.told_times += 1

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        bad, delays, due, apart, again = Worst(), [], 0, 0, 0
        for name, chat in self._chats.items():
            if not self._due(name, chat, facts):
                continue
            if self._interrupted(chat):
                apart += 1
                continue
            due += 1
            again += chat.told_times > 1
            closed = chat.closed or 0.0
            if chat.told and (chat.told != "error" or chat.cause != "finished"):
                delays.append(max(0.0, chat.told_at - closed))
                continue
            what = "told an error" if chat.told else "never told"
            bad.add(0, f"stream {name}: {what} after its end", closed, name, chat.id)
        return decide(
            self,
            bad,
            0,
            "streams ended and their user was not told so",
            "" if due else "no stream ended before the end of the run",
            quantities={
                "ended": due,
                "not_told": bad.count,
                "told_twice": again,
                "interrupted_streams": apart,
                **spread("told_after_s", delays),
            },
            bound="0 not told",
        )


class ResyncHints(Check):
    """Hints that a gap could not be closed are counted apart and bounded."""

    name = "resync-hints-bounded"
    family = "delivery"
    sentence = "Users are seldom told to fetch anew because events were lost for good."
    needs = frozenset({RESYNC_HINT})
    kinds = frozenset({"resync", "socket"})

    def __init__(self) -> None:
        self._sockets: set[str] = set()
        self._hints = Worst()

    def feed(self, record: Record) -> None:
        """Fold one record."""
        if record["k"] == "socket":
            self._sockets.add(record["socket"])
            return
        text = f"{record['socket']} was told to fetch anew"
        self._hints.add(record["t"], text, record["t"])

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        bound = facts.bounds["resync_hints"]
        return decide(
            self,
            self._hints,
            bound,
            "resync hints",
            "" if self._sockets else "no socket was opened",
            quantities={"hints": self._hints.count, "sockets": len(self._sockets)},
            bound=f"≤ {bound:g}",
        )
