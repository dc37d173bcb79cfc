"""The taxonomy: every reply that Redis refuses with, as redis-py and hiredis hand it over."""

from __future__ import annotations

import pytest
from redis._parsers.base import BaseParser
from redis.exceptions import ConnectionError as RedisConnectionError

from runtime.redis.errors import CODES, RedisDenied, RedisUnavailable, acl_rule, translate

REPLIES = {
    "MOVED": "MOVED 1234 127.0.0.1:7001",
    "ASK": "ASK 1234 127.0.0.1:7001",
    "READONLY": "READONLY You can't write against a read only replica.",
    "LOADING": "LOADING Redis is loading the dataset in memory",
    "MASTERDOWN": "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is 'no'.",
    "CLUSTERDOWN": "CLUSTERDOWN The cluster is down",
    "TRYAGAIN": "TRYAGAIN Multiple keys request during rehashing of slot",
    "BUSY": "BUSY Redis is busy running a script.",
    "UNBLOCKED": "UNBLOCKED force unblock from blocking operation",
    "NOREPLICAS": "NOREPLICAS Not enough good replicas to write.",
    "MISCONF": "MISCONF Redis is configured to save RDB snapshots",
    "OOM": "OOM command not allowed when used memory > 'maxmemory'.",
    "NOAUTH": "NOAUTH Authentication required.",
    "WRONGPASS": "WRONGPASS invalid username-password pair or user is disabled.",
    "NOPERM": "NOPERM User app has no permissions to run the 'xadd' command",
}


def parsed(reply: str) -> Exception:
    """Return the exception that redis-py makes of an error reply."""
    error = BaseParser.parse_error(reply)
    assert isinstance(error, Exception)
    return error


def test_every_code_of_the_table_is_tried() -> None:
    """The table and this test name the same codes."""
    assert set(REPLIES) == set(CODES)


@pytest.mark.parametrize("code", sorted(REPLIES))
def test_every_reply_has_its_code(code: str) -> None:
    """Refused, with its code, and worth another try only where the table says so."""
    found = translate(parsed(REPLIES[code]))
    assert isinstance(found, RedisUnavailable)
    assert (found.code, found.refused) == (code, True)
    assert found.retriable is CODES[code].retriable
    assert isinstance(found, RedisDenied) is not CODES[code].retriable
    assert found.reason.startswith(code)


def test_max_clients_says_what_to_do() -> None:
    """redis-py makes a lost connection of it; nothing was executed, and there is a way out."""
    found = translate(parsed("ERR max number of clients reached"))
    assert isinstance(found, RedisUnavailable)
    assert found.refused
    assert "maxclients" in found.reason
    assert isinstance(parsed("ERR max number of clients reached"), RedisConnectionError)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("User app has no permissions to run the 'client|setname' command", "+client|setname"),
        ("this user has no permissions to run the 'EVAL' command", "+eval"),
        ("No permissions to access a channel", "&PREFIX:*"),
        ("The user executing the script can't run this command or subcommand", "+COMMAND"),
        ("No permissions to access a key", "~PREFIX:*"),
    ],
)
def test_a_missing_permission_names_the_rule(text: str, rule: str) -> None:
    """The message says which rule to add."""
    assert rule in acl_rule(text)


def test_a_script_without_permission_is_denied() -> None:
    """Inside a script the code is another one; the meaning is the same."""
    error = parsed(
        "ERR ACL failure in script: User app has no permissions to run the 'xadd' command"
    )
    found = translate(error)
    assert isinstance(found, RedisDenied)
    assert "+xadd" in found.reason
