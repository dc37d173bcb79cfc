"""The arithmetic of a rolling window of buckets. Pure: no clock, no Redis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

Counts = Mapping[int, int]  # number of the bucket → attempts admitted in it


@dataclass(frozen=True)
class Window:
    """At most `limit` admitted attempts within any `window_ms`; counted in buckets.

    An attempt counts until its bucket is wholly older than the window, so the effective window
    lies between `window_ms` and `window_ms + bucket_ms`: never too short.
    """

    limit: int
    window_ms: int
    bucket_ms: int

    @property
    def span(self) -> int:
        """Buckets that count at one instant, the current one included."""
        return -(-self.window_ms // self.bucket_ms) + 1

    @property
    def ttl_ms(self) -> int:
        """How long a bucket is kept after it was last written."""
        return self.span * self.bucket_ms

    def bucket(self, now_ms: int) -> int:
        """Return the number of the current bucket."""
        return now_ms // self.bucket_ms

    def counting(self, now_ms: int) -> range:
        """Return the numbers of the buckets that count now, oldest first."""
        current = self.bucket(now_ms)
        return range(current - self.span + 1, current + 1)

    def used(self, counts: Counts, now_ms: int) -> int:
        """Return how many attempts count now."""
        return sum(counts.get(number, 0) for number in self.counting(now_ms))

    def retry_after_ms(self, counts: Counts, now_ms: int) -> int:
        """Return how long it takes until an attempt is admitted; 0 when one is now."""
        excess = self.used(counts, now_ms) - self.limit + 1
        free_at = now_ms
        for number in self.counting(now_ms):
            if excess <= 0:
                break
            excess -= counts.get(number, 0)
            free_at = (number + self.span) * self.bucket_ms
        return free_at - now_ms


@dataclass
class Tally:
    """What one worker knows of one key: bucket → own attempts, and those of the others."""

    own: dict[int, int] = field(default_factory=dict)
    others: dict[int, int] = field(default_factory=dict)

    def total(self) -> dict[int, int]:
        """Return bucket → attempts of all workers, as far as known."""
        return dict(Counter(self.own) + Counter(self.others))

    def learn(self, number: int, own: int, total: int) -> None:
        """Take over what Redis has of one bucket; our own count never shrinks."""
        self.own[number] = max(own, self.own.get(number, 0))
        self.others[number] = total - own

    def forget_before(self, number: int) -> None:
        """Drop the buckets that no longer count."""
        for counts in (self.own, self.others):
            for old in [n for n in counts if n < number]:
                del counts[old]
