"""The least that an ACL user of the runtime needs, and a harmless probe of each permission.

`docs/redis.md` shows the rules; a test runs the application with exactly these.
"""

from __future__ import annotations

ALWAYS = (  # every connection
    *("client|setname", "ping"),
    *("info", "role", "time"),
)
DATABASE = ("select",)  # where the URL names a database other than 0
CLUSTER = ("cluster|nodes",)
SENTINEL = ("client|setname", "ping", "sentinel|get-master-addr-by-name", "sentinel|master")
SCRIPTS = ("eval",)
PUBSUB = ("subscribe", "publish")
STREAMS = ("xadd", "xread", "xrevrange")
STRINGS = ("get", "set", "mget", "getex", "append", "strlen", "expire", "pexpire", "exists", "del")
HASHES = ("hget", "hgetall", "hset", "hsetnx", "hdel", "hkeys", "hmget", "hlen", "hscan", "hincrby")
SETS = ("sadd", "srem", "smembers", "scard")
ZSETS = (
    *("zadd", "zrem", "zscore", "zcard", "zcount"),
    *("zrange", "zrangebyscore", "zrevrangebyscore", "zremrangebyscore"),
)
COMMANDS = (*ALWAYS, *SCRIPTS, *PUBSUB, *STREAMS, *STRINGS, *HASHES, *SETS, *ZSETS)
USED_BY_CHECK = ("config|get",)  # only `runtime check` reads the server's settings


def acl_rules(prefix: str, mode: str = "standalone", db: int = 0) -> list[str]:
    """Return the rules of a user: `ACL SETUSER app on >password` and these.

    Keys begin with the prefix, or with a hash tag that begins with it.
    """
    extra = (*(CLUSTER if mode == "cluster" else ()), *(DATABASE if db else ()))
    patterns = ["resetkeys", "resetchannels", f"~{prefix}:*", f"~{{{prefix}:*", f"&{prefix}:*"]
    return [*patterns, "-@all", *(f"+{command}" for command in (*COMMANDS, *extra))]


def sentinel_rules() -> list[str]:
    """Return the rules of the user that asks the sentinels."""
    return ["resetkeys", "resetchannels", "-@all", *(f"+{command}" for command in SENTINEL)]
