"""Mutant: a sign-out deletes the browser's cookie and revokes nothing."""

from __future__ import annotations

from runtime.accounts.tokens import Claims, Tokens
from tests.mutants.broken import serve


async def revoke_nothing(self: Tokens, claims: Claims) -> None:
    """Leave the token valid."""


if __name__ == "__main__":
    Tokens.revoke = revoke_nothing  # type: ignore[method-assign]  # the defect
    serve()
