"""Mutant: a sign-out that the database could not take is answered as if it had."""

from __future__ import annotations

from fastapi import Request, Response

from runtime import app
from runtime.api.support import reply
from tests.mutants.broken import serve

honestly = app._database_unavailable


async def all_is_well(request: Request, error: Exception) -> Response:
    """Hope for the best."""
    if request.url.path.endswith("/signout"):
        return reply({"status": True})
    return await honestly(request, error)


if __name__ == "__main__":
    app._database_unavailable = all_is_well  # the defect
    serve()
