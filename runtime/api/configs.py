"""Read and change the configuration. Every route is an admin's.

A change answers once it is in the database; every worker has it within a second. A value of the
wrong kind is a 422 that names the key, and nothing is changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel

from runtime.api.requests import JsonRoute
from runtime.api.schemas import Strict
from runtime.api.support import Admin, services
from runtime.config import schema as schema

router = APIRouter(route_class=JsonRoute)


class Connections(Strict):
    """Which kinds of connections there are. A field that is left out stays as it is."""

    ENABLE_DIRECT_CONNECTIONS: bool | None = None
    ENABLE_BASE_MODELS_CACHE: bool | None = None


class ModelDefaults(Strict):
    """What model lists begin with. A field that is left out stays as it is."""

    DEFAULT_MODELS: str | None = None
    DEFAULT_PINNED_MODELS: str | None = None
    MODEL_ORDER_LIST: list[str] | None = None


class SignInLife(Strict):
    """How long sign-ins last: `4w`, `7d`, `24h`, or `-1` for ever."""

    JWT_EXPIRES_IN: str | None = None


class Providers(Strict):
    """The OpenAI-compatible providers; keys in the order of the URLs."""

    ENABLE_OPENAI_API: bool | None = None
    OPENAI_API_BASE_URLS: list[str] | None = None
    OPENAI_API_KEYS: list[str] | None = None
    OPENAI_API_CONFIGS: dict[str, Any] | None = None


class Import(Strict):
    """Any configuration values, under dotted or nested keys."""

    config: dict[str, Any]


CONNECTIONS = {
    "ENABLE_DIRECT_CONNECTIONS": schema.DIRECT_CONNECTIONS,
    "ENABLE_BASE_MODELS_CACHE": schema.BASE_MODELS_CACHE,
}
MODELS = {
    "DEFAULT_MODELS": schema.DEFAULT_MODELS,
    "DEFAULT_PINNED_MODELS": schema.PINNED_MODELS,
    "MODEL_ORDER_LIST": schema.MODEL_ORDER,
}
ACCOUNTS = {"JWT_EXPIRES_IN": schema.JWT_EXPIRY}
PROVIDERS = {
    "ENABLE_OPENAI_API": schema.OPENAI_ENABLED,
    "OPENAI_API_BASE_URLS": schema.OPENAI_URLS,
    "OPENAI_API_KEYS": schema.OPENAI_KEYS,
    "OPENAI_API_CONFIGS": schema.OPENAI_OPTIONS,
}
Names = Mapping[str, str]  # field of a form → key


@router.get("/api/v1/configs/export")
async def export(request: Request, _: Admin) -> dict[str, Any]:
    """Return every value by its dotted key, API keys included."""
    values = services(request).config.all()
    del values[schema.MODELS_REFRESHED]  # of this deployment only
    return values


@router.post("/api/v1/configs/import")
async def import_(request: Request, _: Admin, body: Import) -> dict[str, Any]:
    """Change all the values given, or none."""
    await _set(request, schema.flat(body.config))
    return await export(request, _)


@router.get("/api/v1/configs/connections", response_model=Connections)
async def connections(request: Request, _: Admin) -> dict[str, Any]:
    """Return which kinds of connections there are."""
    return _shown(request, CONNECTIONS)


@router.post("/api/v1/configs/connections", response_model=Connections)
async def set_connections(request: Request, _: Admin, body: Connections) -> dict[str, Any]:
    """Change which kinds of connections there are."""
    return await _changed(request, CONNECTIONS, body)


@router.get("/api/v1/configs/models", response_model=ModelDefaults)
async def models(request: Request, _: Admin) -> dict[str, Any]:
    """Return the default models and the order of lists."""
    return _shown(request, MODELS)


@router.post("/api/v1/configs/models", response_model=ModelDefaults)
async def set_models(request: Request, _: Admin, body: ModelDefaults) -> dict[str, Any]:
    """Change the default models and the order of lists."""
    return await _changed(request, MODELS, body)


@router.get("/api/v1/auths/admin/config", response_model=SignInLife)
async def accounts(request: Request, _: Admin) -> dict[str, Any]:
    """Return how long sign-ins last."""
    return _shown(request, ACCOUNTS)


@router.post("/api/v1/auths/admin/config", response_model=SignInLife)
async def set_accounts(request: Request, _: Admin, body: SignInLife) -> dict[str, Any]:
    """Change how long sign-ins from now on last."""
    return await _changed(request, ACCOUNTS, body)


@router.get("/openai/config", response_model=Providers)
async def providers(request: Request, _: Admin) -> dict[str, Any]:
    """Return the providers, API keys included."""
    return _shown(request, PROVIDERS)


@router.post("/openai/config/update", response_model=Providers)
async def set_providers(request: Request, _: Admin, body: Providers) -> dict[str, Any]:
    """Change the providers; model lists of before are dropped on every worker."""
    return await _changed(request, PROVIDERS, body)


def _shown(request: Request, names: Names) -> dict[str, Any]:
    config = services(request).config
    return {field: config[key] for field, key in names.items()}


async def _changed(request: Request, names: Names, form: BaseModel) -> dict[str, Any]:
    given = form.model_dump(exclude_unset=True)
    await _set(request, {names[field]: value for field, value in given.items()})
    return _shown(request, names)


async def _set(request: Request, changes: Mapping[str, Any]) -> None:
    try:
        await services(request).config.set(changes)
    except schema.ConfigError as error:
        raise HTTPException(422, str(error)) from None
