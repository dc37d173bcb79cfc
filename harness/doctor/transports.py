"""How sockets come in at a URL: WebSocket, polling, and from pages of which origin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson

from harness.doctor.findings import Finding
from harness.doctor.live import ADDRESS, ANSWER_S
from harness.targets.base import SOCKET_PATH

HANDSHAKES = 4  # each followed by polls; with two replicas one of 16 goes astray for sure
POLLS = 4
ENDPOINT = f"{SOCKET_PATH}/?EIO=4&transport="
ELSEWHERE = "https://doctor.invalid"
OK, BAD_REQUEST = 200, 400
FAILED = (aiohttp.ClientError, OSError, TimeoutError)


async def transports(
    http: aiohttp.ClientSession, url: str, origin: str
) -> tuple[bool, list[Finding]]:
    """Return whether WebSockets are let in, and what is wrong with the ways in."""
    polled, astray = await _polling(url)
    refusal = await _websocket(http, url)
    found = [_no_websocket(url, refusal, bool(polled))] if refusal else []
    if astray:
        found.append(_not_sticky(url, polled, astray))
    if not refusal:
        found += [finding async for finding in _origins(http, url, origin)]
    return not refusal, found


async def _websocket(http: aiohttp.ClientSession, url: str, **options: Any) -> str:
    """Return why a WebSocket was refused; empty when it was opened."""
    try:
        async with http.ws_connect(f"{url}{ENDPOINT}websocket", **options) as socket:
            await asyncio.wait_for(socket.receive(), ANSWER_S)
    except FAILED as error:
        return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return ""


def _no_websocket(url: str, refusal: str, polls: bool) -> Finding:
    return Finding("no-websocket", "warning" if polls else "error", url,
                   "no WebSocket can be opened", refusal,
                   "clients poll instead, slowly, and only if a balancer pins them" if polls
                   else "nothing arrives in real time",
                   "ENABLE_WEBSOCKET_SUPPORT=true; in nginx proxy_http_version 1.1, "
                   "proxy_set_header Upgrade $http_upgrade and Connection \"upgrade\"; in an ALB "
                   "WebSocket support")  # fmt: skip


async def _polling(url: str) -> tuple[int, int]:
    """Return how many polls were made, and how many met a process that knew nothing of it.

    Each comes over a connection of its own and brings the cookies that it was given.
    """
    made = astray = 0
    for _ in range(HANDSHAKES):
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True),
            cookie_jar=aiohttp.CookieJar(unsafe=True),  # keeps those of addresses, too
            timeout=aiohttp.ClientTimeout(total=ANSWER_S),
            headers=ADDRESS,
        ) as http:
            if (sid := await _handshake(http, url)) is None:
                continue  # here, or at this one of several, nobody may poll
            said = [await _poll(http, url, sid, packet) for packet in ["3"] * POLLS + ["1"]]
        made += POLLS
        astray += said[:POLLS].count(BAD_REQUEST)
    return made, astray


async def _handshake(http: aiohttp.ClientSession, url: str) -> str | None:
    """Return the id of a new polling transport; None when none is offered."""
    try:
        async with http.get(f"{url}{ENDPOINT}polling") as answer:
            text = await answer.text()
        return str(orjson.loads(text[1:])["sid"]) if text.startswith("0{") else None
    except (*FAILED, orjson.JSONDecodeError, KeyError):
        return None


async def _poll(http: aiohttp.ClientSession, url: str, sid: str, packet: str) -> int:
    """Send a packet (3: PONG, 1: CLOSE) as a poll; return the status, 0 without answer."""
    try:
        async with http.post(f"{url}{ENDPOINT}polling&sid={sid}", data=packet) as answer:
            return answer.status
    except FAILED:
        return 0


def _not_sticky(url: str, polled: int, astray: int) -> Finding:
    return Finding("polling-without-stickiness", "warning", url,
                   "polls of one socket reach different processes",
                   f"{astray} of {polled} polls were answered with 400, invalid session",
                   "clients that cannot use WebSocket are thrown out again and again",
                   "have the balancer pin users (ip_hash or a cookie), or allow WebSocket "
                   "alone")  # fmt: skip


async def _origins(http: aiohttp.ClientSession, url: str, origin: str) -> AsyncIterator[Finding]:
    if not await _websocket(http, url, origin=ELSEWHERE):
        yield Finding("any-origin", "warning", url, "pages of every origin may open sockets",
                      f"a WebSocket with the origin {ELSEWHERE} was let in",
                      "a page elsewhere acts with a visitor's cookie",
                      "CORS_ALLOW_ORIGIN=https://the.address.users.see")  # fmt: skip
    if origin and (refusal := await _websocket(http, url, origin=origin)):
        yield Finding("origin-refused", "error", url, "pages of the users' address get no socket",
                      f"a WebSocket with the origin {origin}: {refusal}",
                      "nothing arrives in real time, and browsers say little about it",
                      f"CORS_ALLOW_ORIGIN={origin}")  # fmt: skip
