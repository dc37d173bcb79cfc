"""The OpenAPI document: what FastAPI knows, who may call what, and by which methods."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from runtime.api.support import TOKEN_COOKIE, identity, reply

SCHEMES = {
    "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "cookie": {"type": "apiKey", "in": "cookie", "name": TOKEN_COOKIE},
}
NEEDS_TOKEN: list[dict[str, list[str]]] = [{"token": []}, {"cookie": []}]
PROBLEM = "#/components/schemas/Problem"
ONLY_WITH_TOKEN = ("401", "403")


def describe(app: FastAPI, routers: tuple[APIRouter, ...]) -> None:
    """Have the application serve a document that also tells which routes need a token."""
    plain = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = plain()
            found.setdefault("components", {})["securitySchemes"] = SCHEMES
            for route, operation in _operations(found, routers):
                _secure(route, operation)
                _errors_are_json(operation)
            app.openapi_schema = found
        return app.openapi_schema

    async def wrong_method(request: Request, _: Exception) -> Response:
        """Answer 405 with every method of the path; the router knows only the first route's."""
        allowed = ", ".join(sorted(_methods(request.url.path, routers)))
        answer = reply({"detail": f"Not by {request.method}; allowed: {allowed}."}, 405)
        answer.headers["Allow"] = allowed
        return answer

    app.add_exception_handler(405, wrong_method)
    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way


def _methods(path: str, routers: tuple[APIRouter, ...]) -> set[str]:
    """Return the methods of the first path of ours that fits; literal ones stand before others."""
    routes = [r for router in routers for r in router.routes if isinstance(r, APIRoute)]
    ours = next((route.path for route in routes if route.path_regex.match(path)), None)
    return {m for route in routes if route.path == ours for m in route.methods or ()}


def _operations(
    document: dict[str, Any], routers: tuple[APIRouter, ...]
) -> Iterator[tuple[APIRoute, dict[str, Any]]]:
    for router in routers:
        for route in router.routes:
            if isinstance(route, APIRoute) and route.include_in_schema:
                for method in route.methods or ():
                    yield route, document["paths"][route.path][method.lower()]


def _secure(route: APIRoute, operation: dict[str, Any]) -> None:
    if _needs_token(route.dependant):
        operation["security"] = NEEDS_TOKEN
    elif "security" not in operation:  # the route itself may have said so
        for status in ONLY_WITH_TOKEN:
            operation["responses"].pop(status, None)


def _errors_are_json(operation: dict[str, Any]) -> None:
    """Say so also of a route whose good answer is a text."""
    for status, answer in operation["responses"].items():
        if status >= "400":
            answer["content"] = {"application/json": {"schema": {"$ref": PROBLEM}}}


def _needs_token(dependant: Dependant) -> bool:
    """Tell whether a route, or what it depends on, asks who the caller is."""
    return dependant.call is identity or any(map(_needs_token, dependant.dependencies))
