"""What a scenario file says under `load`: users, chats, reads, and how both change over time."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from harness.fault_specs import Model

SHORT_FORMS = ("spike", "ramp", "steps", "soak")


class Chats(Model):
    """The streams that the provider sends: how long and how fast."""

    tokens: int = Field(30, ge=1)
    tokens_per_s: float = Field(5, gt=0)


class Piece(Model):
    """A stretch of the load. A level that it does not name stays as it was before."""

    for_s: float = Field(gt=0)
    reads_per_s: float | None = Field(None, ge=0)
    users: int | None = Field(None, ge=1)
    ramp: bool = False  # reach the levels at the end of the stretch, evenly, instead of at once
    name: str = ""


class Spike(Model):
    """The base load, for a while much more, and the base load again."""

    at: float = Field(ge=0)
    for_s: float = Field(5, gt=0)
    reads_per_s: float | None = Field(None, ge=0)
    users: int | None = Field(None, ge=1)


class Ramp(Model):
    """From the base load evenly to these levels, which then stay."""

    for_s: float | None = Field(None, gt=0)  # None: the whole measured part
    reads_per_s: float | None = Field(None, ge=0)
    users: int | None = Field(None, ge=1)


class Steps(Model):
    """One level after the other, equally long, over the whole measured part."""

    reads_per_s: tuple[float, ...] = ()
    users: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _same_length(self) -> Steps:
        lengths = {len(levels) for levels in (self.reads_per_s, self.users) if levels}
        if len(lengths) != 1:
            raise ValueError("expected `reads_per_s`, `users`, or two lists of the same length")
        if min((*self.reads_per_s, *self.users)) < 0 or min(self.users, default=1) < 1:
            raise ValueError("expected rates of 0 or more and at least 1 user in every step")
        return self


class Soak(Model):
    """The base load for long, in equal parts that are shown apart, so that drift is seen."""

    parts: int = Field(4, ge=2, le=100)


class Pollers(Model):
    """Clients that connect by long polling only, beside the users."""

    clients: int = Field(0, ge=0)
    sticky: bool = False


class Reconnect(Model):
    """How users' sockets come back: at once or after a pause, which grows from try to try."""

    at_once: bool = True
    first_s: float = Field(0.25, gt=0)
    longest_s: float = Field(2.0, gt=0)
    jitter: float = Field(0.25, ge=0, le=1)  # give or take this share of a pause

    @model_validator(mode="after")
    def _grows(self) -> Reconnect:
        if self.longest_s < self.first_s:
            raise ValueError(
                f"`longest_s` is {self.longest_s:g} and `first_s` {self.first_s:g}: "
                "expected a longest pause of at least the first"
            )
        return self


class Load(Model):
    """Users with a socket each, and an open-loop timetable of reads beside them.

    `users` and `reads_per_s` are the base levels: those of the warm-up, and of the measured part
    where neither `shape` nor a short form changes them.
    """

    users: int = Field(50, ge=1)
    chats: Chats = Chats()
    think_s: tuple[float, float] = (1.0, 3.0)
    reads_per_s: float = Field(10, ge=0)
    processes: int = Field(1, ge=1)
    connections: int = Field(200, ge=1)
    pollers: Pollers = Pollers()
    idle_sockets: int = Field(0, ge=0)
    reconnect: Reconnect = Reconnect()
    session_cookies: bool = False
    shape: tuple[Piece, ...] = ()
    spike: Spike | None = None
    ramp: Ramp | None = None
    steps: Steps | None = None
    soak: Soak | None = None

    @model_validator(mode="after")
    def _one_shape(self) -> Load:
        given = [name for name in ("shape", *SHORT_FORMS) if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)}: expected one of them, they say the same")
        return self


PARTS: dict[str, type[Model]] = {
    "load": Load,
    "chats": Chats,
    "pollers": Pollers,
    "reconnect": Reconnect,
    "shape": Piece,
    "spike": Spike,
    "ramp": Ramp,
    "steps": Steps,
    "soak": Soak,
}


def piece(**fields: Any) -> Piece:
    """Return a stretch of a short form."""
    return Piece.model_validate(fields)
