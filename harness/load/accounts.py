"""Accounts and tokens of a run: made by prepare, read by load processes and probes."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson

from harness.files import write_whole

SESSION_COOKIE = "owui-session"


def old_session() -> str:
    """Return the cookie of a session that no worker knows any more, in the form they have."""
    return f"{SESSION_COOKIE}={secrets.token_hex(16)}"


@dataclass
class Account:
    """One account with one token of it. `cookie` is the session cookie once a worker set one."""

    name: str  # u17, canary, admin, spare-3: the account's name in the history
    email: str
    password: str
    address: str  # its X-Forwarded-For
    id: str = ""
    token: str = ""
    token_name: str = ""  # the token's short name in the history
    cookie: str = ""

    def headers(self) -> dict[str, str]:
        """Return what a browser of this account sends with every request."""
        headers = {"X-Forwarded-For": self.address}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        if self.cookie:
            headers["Cookie"] = self.cookie
        return headers


@dataclass
class Accounts:
    """Everything that prepare made.

    `spare[k]` holds the token of sign-out step k, `guests[k]` is the account of visit k.
    """

    admin: Account
    canary: Account
    users: list[Account] = field(default_factory=list)
    spare: list[Account] = field(default_factory=list)
    model: str = ""
    guests: list[Account] = field(default_factory=list)

    def bring_cookies(self) -> None:
        """Give every user an old session cookie, as browsers keep theirs over a restart."""
        for account in self.users:
            account.cookie = old_session()

    def write(self, path: Path) -> None:
        """Write the accounts file; a reader sees all of it or none."""
        fields = asdict(self)
        for entry in fields["spare"]:
            entry["account"] = entry["name"]
        write_whole(path, orjson.dumps(fields, option=orjson.OPT_INDENT_2))

    @classmethod
    def read(cls, path: Path) -> Accounts:
        """Read the accounts file."""
        raw = orjson.loads(path.read_bytes())
        for entry in raw["spare"]:
            entry.pop("account")
        return cls(
            admin=Account(**raw["admin"]),
            canary=Account(**raw["canary"]),
            users=[Account(**entry) for entry in raw["users"]],
            spare=[Account(**entry) for entry in raw["spare"]],
            guests=[Account(**entry) for entry in raw["guests"]],
            model=raw["model"],
        )
