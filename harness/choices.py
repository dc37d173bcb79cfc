"""Random choices that follow from the seed alone."""

from __future__ import annotations

import hashlib


class Choices:
    """One user's random stream: the k-th choice is a function of (seed, user, k), never of time."""

    def __init__(self, seed: int, user: str | int) -> None:
        self._key = f"{seed}:{user}".encode()
        self._k = 0

    def at(self, k: int) -> float:
        """Return the k-th choice, in [0, 1)."""
        digest = hashlib.blake2b(b"%d" % k, key=self._key[:64], digest_size=7).digest()
        return int.from_bytes(digest, "big") / (1 << 56)

    def next(self) -> float:
        """Return the next choice, in [0, 1)."""
        self._k += 1
        return self.at(self._k)

    def below(self, n: int) -> int:
        """Return the next choice as an integer in [0, n)."""
        return int(self.next() * n)

    def between(self, low: float, high: float) -> float:
        """Return the next choice in [low, high)."""
        return low + (high - low) * self.next()
