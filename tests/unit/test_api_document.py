"""The OpenAPI document, without a worker."""

from __future__ import annotations

from typing import Any

from runtime.app import create_app
from runtime.settings import load_settings

SECRET = "0123456789abcdef0123456789abcdef"


def document(**environ: str) -> dict[str, Any]:
    """Return the document of an application."""
    return create_app(load_settings({"WEBUI_SECRET_KEY": SECRET, **environ})).openapi()


def test_document_says_which_routes_need_a_token() -> None:
    """A route that asks who the caller is shows both ways to say so, and that it may refuse."""
    paths = document()["paths"]
    mine, public = paths["/api/v1/users/"]["get"], paths["/api/v1/auths/signin"]["post"]
    assert mine["security"] == [{"token": []}, {"cookie": []}]
    assert "security" not in public
    assert [status in mine["responses"] for status in ("401", "403")] == [True, True]
    assert [status in public["responses"] for status in ("401", "403")] == [False, False]


def test_document_is_served_unless_that_is_switched_off() -> None:
    """ENABLE_OPENAPI=false leaves no route to it."""
    for value, served in (("true", "/openapi.json"), ("false", None)):
        settings = load_settings({"WEBUI_SECRET_KEY": SECRET, "ENABLE_OPENAPI": value})
        assert create_app(settings).openapi_url == served
