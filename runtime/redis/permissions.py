"""The least that an ACL user of the runtime needs.

`docs/redis.md` shows the rules; tests run the application with exactly these, and each command
without its own. The numbers are the words that a command has at least (the server's arity).
"""

from __future__ import annotations

ALWAYS = {  # every connection
    "client|setname": 3,
    "ping": 1,
    "info": 1,
    "role": 1,
    "time": 1,
}
DATABASE = {"select": 2}  # where the URL names a database other than 0
CLUSTER = {"cluster|nodes": 2, "asking": 1}
SENTINEL = {
    "client|setname": 3,
    "ping": 1,
    "sentinel|get-master-addr-by-name": 3,
    "sentinel|master": 3,
}
SCRIPTS = {"eval": 3, "evalsha": 3}
PUBSUB = {"subscribe": 2, "publish": 3}
STREAMS = {"xadd": 5, "xread": 4, "xrevrange": 4}
STRINGS = {
    "get": 2,
    "set": 3,
    "mget": 2,
    "getex": 2,
    "append": 3,
    "strlen": 2,
    "expire": 3,
    "pexpire": 3,
    "pttl": 2,
    "exists": 2,
    "del": 2,
}
HASHES = {
    "hget": 3,
    "hgetall": 2,
    "hmget": 3,
    "hkeys": 2,
    "hlen": 2,
    "hscan": 3,
    "hexists": 3,
    "hset": 4,
    "hsetnx": 4,
    "hdel": 3,
    "hincrby": 4,
}
LISTS = {"rpush": 3, "lpush": 3, "lrange": 4, "ltrim": 4, "llen": 2}
SETS = {"sadd": 3, "srem": 3, "smembers": 2, "scard": 2}
ZSETS = {
    "zadd": 4,
    "zrem": 3,
    "zscore": 3,
    "zcard": 2,
    "zcount": 4,
    "zrange": 4,
    "zrangebyscore": 4,
    "zrevrangebyscore": 4,
    "zremrangebyscore": 4,
}
COMMANDS = {
    **ALWAYS,
    **SCRIPTS,
    **PUBSUB,
    **STREAMS,
    **STRINGS,
    **HASHES,
    **LISTS,
    **SETS,
    **ZSETS,
}
USED_BY_CHECK = {"config|get": 3, "multi": 1, "discard": 1}  # only `runtime check` uses these

USED_BY_DIAGNOSTICS = {"scan": 2, "client|list": 2}  # only the administrators' route uses these

# WEBSOCKET_MANAGER=redis-pubsub: python-socketio's own connections, by redis-py's defaults
PUBSUB_MANAGER = ["+hello", "+unsubscribe"]
PUBSUB_MANAGER_OF_SENTINELS = ["+hello", "+sentinel|masters"]


def acl_rules(prefix: str, mode: str = "standalone", db: int = 0) -> list[str]:
    """Return the rules of a user: `ACL SETUSER app on >password` and these.

    Keys begin with the prefix, or with a hash tag that begins with it.
    """
    patterns = ["resetkeys", "resetchannels", f"~{prefix}:*", f"~{{{prefix}:*", f"&{prefix}:*"]
    return [*patterns, "-@all", *(f"+{command}" for command in needed(mode, db))]


def needed(mode: str = "standalone", db: int = 0) -> dict[str, int]:
    """Return the commands that the runtime sends to data nodes, and their least words."""
    return {
        **COMMANDS,
        **(CLUSTER if mode == "cluster" else {}),
        **(DATABASE if db else {}),
    }


def sentinel_rules() -> list[str]:
    """Return the rules of the user that asks the sentinels."""
    return ["resetkeys", "resetchannels", "-@all", *(f"+{command}" for command in SENTINEL)]


def least_words(command: str, key: str) -> list[str]:
    """Return the command with as many words as the server asks for; what is missing is the key."""
    words = command.split("|")
    return words + [key] * (needed("cluster", 1)[command] - len(words))
