"""Redirections of a cluster: what was answered with ASK or MOVED is sent where the answer says.

A slot that is being moved is on its way for as long as its keys need. Meanwhile the old owner
answers ASK for what it has no more, and MOVED once the slot has changed hands. Both mean that
nothing was executed, so sending again is safe, whatever the command.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis.exceptions import AskError, MovedError

from runtime.redis.errors import RedisUnavailable
from runtime.redis.wire import Address, Argument

MOST_HOPS = 3  # a slot that was half moved may be moved, and back, meanwhile
ASKING: tuple[tuple[Argument, ...], ...] = (("ASKING",),)  # counts for the next command only
Place = tuple[Address, tuple[tuple[Argument, ...], ...]]  # the node, and what goes before
Exchange = Callable[[Sequence[Sequence[Argument]], Address], Awaitable[list[Any]]]


async def follow(
    exchange: Exchange, commands: Sequence[Sequence[Argument]], replies: list[Any]
) -> list[Any]:
    """Return the replies with redirections followed; what cannot be followed stays as it is.

    Raises RedisUnavailable when nobody knows whether a command was executed elsewhere.
    """
    replies = list(replies)
    for _ in range(MOST_HOPS):
        elsewhere = redirected(replies)
        for place, numbers in elsewhere.items():
            try:
                answers = await _send(exchange, place, [commands[n] for n in numbers])
            except RedisUnavailable as error:
                if error.refused:  # not even sent: the next try will find the owner
                    return replies
                raise
            for number, answer in zip(numbers, answers, strict=True):
                replies[number] = answer
        if not elsewhere:
            break
    return replies


def redirected(replies: Sequence[Any]) -> dict[Place, list[int]]:
    """Return place → numbers of the replies that point there."""
    found: dict[Place, list[int]] = {}
    for number, reply in enumerate(replies):
        if isinstance(reply, AskError) and reply.host:  # MOVED is one; an owner may have no address
            before = () if isinstance(reply, MovedError) else ASKING
            found.setdefault(((reply.host, reply.port), before), []).append(number)
    return found


async def _send(
    exchange: Exchange, place: Place, commands: Sequence[Sequence[Argument]]
) -> list[Any]:
    address, before = place
    words = [some for command in commands for some in (*before, command)]
    answers = await exchange(words, address)
    return answers[len(before) :: 1 + len(before)]
