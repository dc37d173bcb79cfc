"""Whether the clock of Redis was set. Pure, no I/O."""

from __future__ import annotations

import time

STEP_S = 2.0  # less is a matter of rounding, or of a clock that is being slewed


class ServerClock:
    """Compares the server's clock with this process's monotonic one, from look to look.

    A jump is a clock that was set, another server with another clock after a failover, or a machine
    of ours that slept: each time, what was dated before looks too old, or is dated in the future.
    """

    def __init__(self) -> None:
        self._ahead: tuple[float, float] | None = None  # between these two, in seconds

    def stepped(self, server_s: int, asked: float) -> bool:
        """Note the server's whole second, asked for at `asked` (time.monotonic()).

        Returns whether it is another clock than at the last look. However long the answer took, or
        this process stood still with it, is taken into account.
        """
        ahead = (server_s - time.monotonic(), server_s + 1 - asked)
        last, self._ahead = self._ahead or ahead, ahead
        return ahead[0] > last[1] + STEP_S or ahead[1] < last[0] - STEP_S
