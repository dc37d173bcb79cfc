"""Step `session_end`: somebody signs out while a slow request still uses the session."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gevent

from harness.load.accounts import Account
from harness.load.context import LoadContext
from harness.load.operations import SESSION_KEY, Operations
from harness.plan import Step
from harness.targets.base import SESSION_DATA

OVERTAKE_S = 0.1  # the slow request is on its way for so long when the sign-out is sent
FIRST, LATE = 1, 2  # values of the session's counter
PATH = "/api/v1/session/data"


class SessionEnds:
    """Signs a user in afresh, ends the session under a request, and comes again with its cookie."""

    def __init__(self, context: LoadContext, operations: Operations) -> None:
        self._context = context
        self._operations = operations

    def perform(self, step: Step, due: float) -> None:
        """Do the whole step, on workers that the plan chooses."""
        context, name = self._context, f"e{step.k}"
        if SESSION_DATA not in context.setup.capabilities:
            return
        choices = context.choices(f"session_end-{step.k}")
        slow = choices.below(context.workers)
        quick = context.other_worker(choices, slow)
        first = self._sign_in(step, quick, name)
        if first is None or not self._write(first, "session_begin", quick, name, FIRST, due):
            return
        cookie = first.cookie
        late = gevent.spawn(self._write, replace(first), "session_late", slow, name, LATE, None)
        gevent.sleep(OVERTAKE_S)
        ended = self._end(replace(first), quick, name)
        late.join()
        again = self._sign_in(step, quick, name) if ended else None
        if again is not None:
            for worker in range(context.workers):
                self._look(replace(again, cookie=cookie), worker, name)

    def _sign_in(self, step: Step, worker: int, name: str) -> Account | None:
        """Return the step's user with a new token and no cookie."""
        user = self._context.accounts.users[step.user]
        # not signed in yet
        account = replace(user, token="", cookie="", token_name=name)  # nosec B106
        form = {"email": account.email, "password": account.password}
        request = ("POST", "/api/v1/auths/signin", form)
        tokens: list[str] = []
        args = {"account": account.name}
        answer = self._operations.do(
            "sign_in", account, worker, request, args, lambda body: _keep(tokens, body, name)
        )
        return replace(account, token=tokens[0]) if answer.ok else None

    def _write(
        self, account: Account, op: str, worker: int, name: str, value: int, due: float | None
    ) -> bool:
        args = {"session": name, "value": value, **({} if due is None else {"scheduled": due})}
        request = ("POST", PATH, {SESSION_KEY: value})
        return self._operations.do(op, account, worker, request, args, lambda _: {}, REFUSED).ok

    def _end(self, account: Account, worker: int, name: str) -> bool:
        request = ("POST", "/api/v1/auths/signout", None)
        args = {"session": name}
        return self._operations.do("session_end", account, worker, request, args, lambda _: {}).ok

    def _look(self, account: Account, worker: int, name: str) -> None:
        self._operations.do(
            "session_again",
            account,
            worker,
            ("GET", PATH, None),
            {"session": name},
            lambda body: {"value": body["data"].get(SESSION_KEY)},
        )


REFUSED = (401, 409)  # true answers to a request whose session ended under it


def _keep(tokens: list[str], body: dict[str, Any], name: str) -> dict[str, Any]:
    """Keep the token; record its short name only."""
    tokens.append(str(body["token"]))
    return {"token": name}
