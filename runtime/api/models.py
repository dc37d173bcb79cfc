"""The models that can be chatted with."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request, Response

from runtime.accounts.tokens import Identity
from runtime.api.chat_schemas import Models
from runtime.api.requests import JsonRoute
from runtime.api.support import Admin, Who, reply, services
from runtime.config.schema import MODEL_ORDER
from runtime.models.lists import ListError, Model, ordered

router = APIRouter(prefix="/api/models", route_class=JsonRoute)


@router.get("", response_model=Models)
async def models(request: Request, who: Who, refresh: bool = False) -> Response:
    """Return the models in the configured order; with `refresh`, the providers are asked anew."""
    here = services(request)
    if refresh:
        await here.model_lists.refresh(at_once=who.is_admin)
    return reply({"data": ordered(await _models(request, who), here.config[MODEL_ORDER])})


@router.get("/base", response_model=Models)
async def base(request: Request, who: Admin) -> Response:
    """Return the models as the providers list them."""
    return reply({"data": await _models(request, who)})


@router.post("/refresh", response_model=Models)
async def refresh(request: Request, who: Admin) -> Response:
    """Drop the lists of all workers and return a new one."""
    await services(request).model_lists.refresh(at_once=True)
    return reply({"data": await _models(request, who)})


async def _models(request: Request, who: Identity) -> list[Model]:
    try:
        return await services(request).model_lists.get(who.user)
    except ListError as error:
        raise HTTPException(502, f"No provider tells its models: {error}") from None
