"""Bodies of requests and answers, as the OpenAPI document shows them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints

Role = Literal["admin", "user", "pending"]
# no NUL: PostgreSQL stores none
Text = Annotated[
    str, StringConstraints(min_length=1, max_length=1024, pattern=r"^[^\x00]*[^\s\x00][^\x00]*$")
]
Email = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, to_lower=True, max_length=320, pattern=r"^[^\s@\x00]+@[^\s@\x00]+$"
    ),
]
Password = Annotated[str, StringConstraints(min_length=1, max_length=1024)]


class Strict(BaseModel):
    """A body of a request: no number is taken for a text; unknown keys are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore")


class SignIn(Strict):
    """Who signs in."""

    email: Email
    password: Password


class SignUp(SignIn):
    """A new account."""

    name: Text


class NewAccount(SignUp):
    """A new account that an admin makes."""

    role: Role = "user"


class NewPassword(Strict):
    """A change of the caller's password."""

    password: Password
    new_password: Password


class AccountUpdate(Strict):
    """What an admin changes; what is left out stays."""

    name: Text | None = None
    role: Role | None = None
    password: Password | None = None


class Problem(BaseModel):
    """What is wrong, in words."""

    detail: str


class Done(BaseModel):
    """It is done."""

    status: Literal[True]


class Account(BaseModel):
    """An account as others see it."""

    id: str
    email: str
    name: str
    role: Role
    profile_image_url: str


class Accounts(BaseModel):
    """All accounts."""

    users: list[Account]
    total: int


class WhoAmI(Account):
    """The caller. `expires_at` is when the token ends (epoch seconds; null: never)."""

    expires_at: int | None


class SignedIn(WhoAmI):
    """A new token and whose it is."""

    token: str
    token_type: Literal["Bearer"]


class Added(Account):
    """A new account, and a token of it."""

    token: str
    token_type: Literal["Bearer"]


class SessionData(BaseModel):
    """The data of the caller's session."""

    data: dict[str, Any]


PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": meaning}
    for status, meaning in {
        400: "The request cannot be carried out as it is",
        401: "No valid token",
        403: "Not allowed",
        404: "No such thing of yours",
        405: "No such method here",
        409: "In conflict with what goes on",
        413: "Too large",
        422: "Not what is expected",
        429: "Too many attempts",
        500: "An error of ours",
        502: "The provider does not answer",
        503: "Not now; nothing was done",
        504: "Nobody knows whether it was done",
    }.items()
}
JSON_OBJECT: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"type": "object", "maxProperties": 100}}},
    }
}
