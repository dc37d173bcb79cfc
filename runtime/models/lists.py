"""Ask every provider for its models and make one list of the answers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from runtime.config.schema import ProviderOptions

ANSWER_WITHIN_S = 10.0  # a provider that takes longer counts as failed
LARGEST_LIST = 16 << 20
OK = 200
NOT_FOR_CHATS = ("babbage", "dall-e", "davinci", "embedding", "tts", "whisper")

Model = dict[str, Any]


@dataclass(frozen=True)
class Connection:
    """One provider. `url` ends before `/models`."""

    url: str
    key: str
    options: ProviderOptions = field(default_factory=ProviderOptions)


@dataclass
class Lists:
    """The merged models, and which providers failed: their models are missing."""

    models: list[Model]
    failed: list[str] = field(default_factory=list)


class ListError(Exception):
    """A provider's list cannot be had."""


def connections(
    urls: Sequence[str], keys: Sequence[str], options: Mapping[str, Any]
) -> list[Connection]:
    """Return the providers; options are by the URL's position, else by the URL itself."""
    padded = [*keys, *[""] * len(urls)]
    return [
        Connection(
            url, key, ProviderOptions.model_validate(options.get(str(n), options.get(url, {})))
        )
        for n, (url, key) in enumerate(zip(urls, padded, strict=False))
    ]


class ModelLists:
    """Fetches over one HTTP session, made when it is first needed."""

    def __init__(self) -> None:
        self._http: aiohttp.ClientSession | None = None

    async def fetch(self, found: Sequence[Connection], headers: Mapping[str, str]) -> Lists:
        """Ask all providers at once; those that fail are named, the others' models merged."""
        answers = await asyncio.gather(
            *(self._models(one, headers) for one in found), return_exceptions=True
        )
        lists: list[list[Model]] = []
        failed = []
        for one, answer in zip(found, answers, strict=True):
            if isinstance(answer, ListError):
                failed.append(f"{urlsplit(one.url).netloc}: {answer}")
            elif isinstance(answer, BaseException):
                raise answer
            lists.append([] if isinstance(answer, BaseException) else answer)
        return Lists(merged(found, lists), failed)

    async def close(self) -> None:
        """Close every connection."""
        if self._http is not None:
            await self._http.close()

    async def _models(self, one: Connection, headers: Mapping[str, str]) -> list[Model]:
        """Return one provider's models; raise ListError."""
        if not one.options.enable:
            return []
        if one.options.model_ids:
            return [{"id": name, "name": name} for name in one.options.model_ids]
        if self._http is None:
            timeout = aiohttp.ClientTimeout(total=ANSWER_WITHIN_S)
            self._http = aiohttp.ClientSession(timeout=timeout)
        own = {"Authorization": f"Bearer {one.key}"} if one.key else {}
        try:
            async with self._http.get(f"{one.url}/models", headers={**headers, **own}) as answer:
                if answer.status != OK:
                    raise ListError(f"answered {answer.status}")
                return parsed(await _whole(answer.content))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ListError(f"{type(error).__name__}: {error}") from error


async def _whole(content: aiohttp.StreamReader) -> bytes:
    """Return a body; raise ListError when it is endless."""
    body = bytearray()
    async for piece in content.iter_any():
        body += piece
        if len(body) > LARGEST_LIST:
            raise ListError(f"longer than {LARGEST_LIST} bytes")
    return bytes(body)


def parsed(body: bytes) -> list[Model]:
    """Return the models of an answer: `{"data": [...]}`, or a bare list; raise ListError."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ListError(f"no JSON: {error}") from None
    found = answer.get("data") if isinstance(answer, dict) else answer
    if not isinstance(found, list):
        raise ListError("no list of models")
    return [m for m in found if isinstance(m, dict) and (m.get("id") or m.get("name"))]


def merged(found: Sequence[Connection], lists: Sequence[list[Model]]) -> list[Model]:
    """Return one list; of two models with one id the first provider's counts."""
    models: dict[str, Model] = {}
    for place, (one, listed) in enumerate(zip(found, lists, strict=True)):
        for model in listed:
            entry = _entry(place, one, model)
            if _for_chats(one, entry["id"]):
                models.setdefault(entry["id"], entry)
    return list(models.values())


def _entry(place: int, one: Connection, model: Model) -> Model:
    options = one.options
    plain = name_of(model)
    entry = {
        **model,
        "id": f"{options.prefix_id}.{plain}" if options.prefix_id else plain,
        "name": model.get("name") or plain,
        "owned_by": "openai",
        "openai": model,
        "connection_type": options.connection_type,
        "urlIdx": place,
    }
    return {**entry, "tags": options.tags} if options.tags else entry


def name_of(model: Model) -> str:
    """Return what a provider itself calls a model."""
    return str(model.get("id") or model["name"])


def _for_chats(one: Connection, model_id: str) -> bool:
    """Leave out what OpenAI's own list has beside chat models."""
    return urlsplit(one.url).hostname != "api.openai.com" or not any(
        word in model_id for word in NOT_FOR_CHATS
    )


def ordered(models: Sequence[Model], first: Sequence[str]) -> list[Model]:
    """Return the models in the order of `first`; those that it lacks follow by name."""
    if not first:
        return list(models)
    places = {name: place for place, name in enumerate(first)}
    return sorted(models, key=lambda m: (places.get(m["id"], len(places)), str(m["name"])))
