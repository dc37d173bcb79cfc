"""Who does what in the load: a function of plan, seed and user, never of time."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.choices import Choices
from harness.errors import UserError
from harness.load.accounts import SESSION_COOKIE, Account, Accounts
from harness.load.addresses import forwarded_for, require_loopback
from harness.load.context import own_users, pick
from harness.load.idle import idle_sockets
from harness.load.streams import Stream, Streams
from harness.load_specs import Load


@pytest.mark.parametrize(("total", "of"), [(50, 1), (50, 3), (2, 3), (7, 7)])
def test_every_user_belongs_to_exactly_one_process(total: int, of: int) -> None:
    """The processes' users are disjoint and complete; a process has users on every worker."""
    workers = 2
    parts = [own_users(total, number, of, workers) for number in range(of)]
    assert sorted(user for users in parts for user in users) == list(range(total))
    assert max(map(len, parts)) - min(map(len, parts)) <= workers
    assert all({user % workers for user in users} == {0, 1} for users in parts if len(users) > 1)


def test_idle_sockets_are_spread_over_processes_workers_and_users() -> None:
    """Each is of one process; users have equally many, and the choices of none are another's."""
    users = [Account(f"u{n}", "", "", "", token=f"t{n}") for n in range(3)]
    made = [socket for number in (0, 1) for socket in idle_sockets(_context(number, users))]
    assert sorted(each.name for each in made) == sorted(f"tab{k}--1" for k in range(12))
    assert Counter(each._account.token for each in made) == {"t0": 4, "t1": 4, "t2": 4}
    assert Counter(each._worker for each in made) == {0: 6, 1: 6}
    assert len({each._choices.at(1) for each in made}) == 12


def _context(number: int, users: list[Account]) -> Any:
    return SimpleNamespace(
        number=number,
        of=2,
        workers=2,
        accounts=SimpleNamespace(users=users),
        scenario=SimpleNamespace(load=Load(idle_sockets=12)),
        home=lambda number: number % 2,
        choices=lambda name: Choices(1, name),
    )


def test_a_choice_among_options_uses_one_choice() -> None:
    """Two users with the same history of choices choose the same."""
    first, second = Choices(7, 3), Choices(7, 3)
    assert [pick(first, [4, 5, 6]) for _ in range(20)] == [4 + second.below(3) for _ in range(20)]


@pytest.mark.parametrize(
    "url", ["http://192.0.2.1:80", "http://[::1]:80", "http://example.org", "nonsense"]
)
def test_load_refuses_hosts_that_are_not_loopback(url: str) -> None:
    """The message names the URL and what is expected."""
    with pytest.raises(UserError, match=r"127\.0\.0\.0/8"):
        require_loopback(["http://127.3.2.1:8080", url])


def test_accounts_claim_addresses_of_their_own() -> None:
    """No two of a hundred thousand accounts share an address."""
    addresses = {forwarded_for(number) for number in range(1, 100_001)}
    assert len(addresses) == 100_000


def test_accounts_survive_their_file(tmp_path: Path) -> None:
    """What prepare wrote is what load processes and probes read."""
    made = [Account(n, f"{n}@load.example", "pw", "10.0.0.1", "id", "jwt", n) for n in "abcd"]
    accounts = Accounts(made[0], made[1], [made[2]], [made[3]], "model")
    accounts.write(tmp_path / "accounts.json")
    assert Accounts.read(tmp_path / "accounts.json") == accounts


def test_a_stream_is_found_by_its_message_before_its_chat_is_known() -> None:
    """Events may come before the answer that names the chat."""
    streams, stream = Streams(), Stream("c1-0", 1, 60, 10)
    streams.add(stream)
    assert streams.find(stream.message_id, "unknown") is stream
    assert streams.find("other", "chat") is None
    streams.acknowledge(stream, "chat", ["task"], 5.0)
    assert streams.find(None, "chat") is stream
    assert (stream.due_end, stream.running) == (11.0, True)


def test_a_load_process_explains_its_arguments() -> None:
    """The entry starts, patched, and without arguments says what is missing."""
    argv = [sys.executable, "-m", "harness.load.process"]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "--run" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_users_bring_a_session_cookie_each_of_the_form_that_workers_make() -> None:
    """Every user's own, with 32 hexadecimal digits; instruments and the admin bring none."""
    names = ("admin", "canary", "u0", "u1")
    admin, canary, *users = (Account(n, f"{n}@x", "secret", "10.0.0.1") for n in names)
    Accounts(admin, canary, users).bring_cookies()
    brought = [user.headers()["Cookie"] for user in users]
    assert all(re.fullmatch(rf"{SESSION_COOKIE}=[0-9a-f]{{32}}", cookie) for cookie in brought)
    assert len(set(brought)) == len(users)
    assert "Cookie" not in admin.headers() | canary.headers()
