"""Bodies of the routes of channels, notes, shared chats and presence."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Path
from pydantic import BaseModel, Field, StringConstraints

from runtime.api.schemas import Strict, Text

MOST_ACCOUNTS = 500
Account = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00]+$")]
Identifier = Annotated[str, Path(min_length=1, max_length=64, pattern=r"^[^\x00]+$")]


class Accounts(Strict):
    """Accounts that join or leave."""

    user_ids: list[Account] = Field(max_length=MOST_ACCOUNTS)


class NewChannel(Strict):
    """A channel, and who is in it besides its owner."""

    name: Text
    user_ids: list[Account] = Field(default=[], max_length=MOST_ACCOUNTS)


class NewNote(Strict):
    """A note."""

    title: Text


class Grant(Strict):
    """What one account may do."""

    principal_id: Account
    permission: Literal["read", "write"] = "read"


class Grants(Strict):
    """Who besides the owner has access; those who are not named lose it."""

    access_grants: list[Grant] = Field(max_length=MOST_ACCOUNTS)


class Channel(BaseModel):
    """A channel."""

    id: str
    user_id: str
    name: str


class Note(BaseModel):
    """A note."""

    id: str
    user_id: str
    title: str


class Member(BaseModel):
    """Somebody with access. `is_active` is null while nobody can tell."""

    id: str
    name: str
    permission: str
    is_active: bool | None


class Members(BaseModel):
    """Everybody with access."""

    users: list[Member]
    total: int


class Usage(BaseModel):
    """Models in use, and users who are online."""

    model_ids: list[str]
    user_count: int


class Active(BaseModel):
    """Whether a user is online."""

    active: bool
