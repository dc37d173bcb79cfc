"""Clocks of other machines: the measured offset is right within its own bound."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.deploy.folder import RunFolder
from harness.errors import UserError
from harness.history.reader import read_history
from harness.load.addresses import require_allowed
from harness.load.machine import Machine
from harness.load.machines import Master, split_address
from harness.load.offset import EXCHANGES, Offset

delays = st.lists(st.floats(0, 0.5), min_size=EXCHANGES, max_size=EXCHANGES)


@given(st.floats(-1e4, 1e4), delays, delays)
def test_the_offset_is_right_within_its_error(
    ahead: float, there: list[float], back: list[float]
) -> None:
    """However unequal the two ways are, the true offset lies within the bound."""
    t = 100.0

    def ask(n: int) -> float:
        nonlocal t
        t += there[n]
        reading = t + ahead
        t += back[n]
        return reading

    offset = Offset.measure(lambda: t, ask)
    assert abs(offset.seconds - ahead) <= offset.error + 1e-6
    shortest = min(a + b for a, b in zip(there, back, strict=True))
    assert offset.error == pytest.approx(shortest / 2, abs=1e-6)


def test_a_clock_that_drifted_is_corrected_by_half_and_bounded() -> None:
    """Times taken between two measurements lie within the error of the truth."""
    offset = Offset(10.0, 0.001).drifted(Offset(10.02, 0.002))
    assert offset.seconds == pytest.approx(-0.01)
    assert offset.error == pytest.approx(0.012)


def test_what_a_machine_sends_becomes_its_history_with_the_clock_in_its_header(
    tmp_path: Path,
) -> None:
    """The header comes in two pieces; at the end it has the offset, and readers move all times."""
    run = RunFolder.create(tmp_path)
    machine = Machine(run, 1, "there")
    machine.offset = Offset(7.0, 0.001)
    header = {"t": 0.0, "k": "header", "source": "load-1", "base": 1.0, "offset": 0.0, "error": 0.0}
    data = orjson.dumps(header) + b"\n"
    done = {"t": 5.0, "k": "ok", "id": "x", "sent": 4.9}
    data += orjson.dumps({"t": 4.0, "k": "invoke", "id": "x", "scheduled": 3.9}) + b"\n"
    data += orjson.dumps(done) + b"\n" + orjson.dumps({"t": 6.0, "k": "stream", "sent": 3}) + b"\n"
    machine.history(data[:20])
    assert not list(run.history.iterdir())
    machine.history(data[20:])
    first = next(iter(read_history(run.history)))
    assert (first["offset"], first["error"]) == (0.0, 0.001)
    machine.ended(0, "said")
    machine.close(Offset(7.2, 0.001))
    head, invoked, completed, stream = read_history(run.history)
    assert head["error"] == pytest.approx(0.101)
    assert (invoked["t"], invoked["scheduled"]) == (pytest.approx(3.9), pytest.approx(3.8))
    assert (completed["t"], completed["sent"]) == (pytest.approx(4.9), pytest.approx(4.8))
    assert (stream["t"], stream["sent"]) == (pytest.approx(5.9), 3)
    assert machine.well


def test_load_goes_to_other_hosts_only_when_they_are_named() -> None:
    """Loopback always; another address when it was allowed, as it was written."""
    require_allowed(["http://127.0.0.1:80", "http://10.0.0.5:5558"], frozenset({"10.0.0.5"}))
    with pytest.raises(UserError, match=r"--allow-host 10\.0\.0\.6"):
        require_allowed(["http://10.0.0.6:5558"], frozenset({"10.0.0.5"}))
    with pytest.raises(UserError, match="--allow-host"):
        Master.parse("10.0.0.6", 1, ())


@pytest.mark.parametrize("text", ["", ":80", "host:", "host:x"])
def test_an_address_that_cannot_be_is_explained(text: str) -> None:
    """The message shows the form."""
    with pytest.raises(UserError, match="HOST:PORT"):
        split_address(text)
