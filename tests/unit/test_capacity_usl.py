"""The fit gives what the literature published, finds planted coefficients, refuses thin data."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.capacity.usl import fit, in_words, read_points
from harness.errors import UserError

# SPEC SDM91 on a SPARCcenter 2000, and a ray tracer on an SGI Origin 2000; both in Gunther,
# "Guerrilla Capacity Planning" (2007). Coefficients: S. Möding, "Using the usl package", version 3.
SDM91 = [
    (1, 64.9), (18, 995.9), (36, 1652.4), (72, 1853.2),
    (108, 1828.9), (144, 1775.0), (216, 1702.2),
]  # fmt: skip
RAYTRACER = [
    (1, 20), (4, 78), (8, 130), (12, 170), (16, 190), (20, 200),
    (24, 210), (28, 230), (32, 260), (48, 280), (64, 310),
]  # fmt: skip


def test_spec_sdm91() -> None:
    """λ 89.9952330, σ 0.0277285, κ 0.0001044; the peak is at 96.5 users."""
    law = fit(SDM91)
    assert law.lam.value == pytest.approx(89.9952330, rel=0.001)
    assert law.sigma.value == pytest.approx(0.0277285, rel=0.001)
    assert law.kappa.value == pytest.approx(0.0001044, rel=0.001)
    assert law.peak_users == pytest.approx(96.5, rel=0.01)
    assert law.sigma.certain
    assert law.kappa.certain


def test_raytracer_has_no_coherency_cost() -> None:
    """λ 21.848843, σ 0.057771, κ 0: no peak, and nobody claims one."""
    law = fit(RAYTRACER)
    assert law.lam.value == pytest.approx(21.848843, rel=0.001)
    assert law.sigma.value == pytest.approx(0.057771, rel=0.001)
    assert law.kappa.value == pytest.approx(0, abs=1e-9)
    assert law.peak_users is None
    assert not law.kappa.certain
    assert "No peak" in in_words(law)


@given(
    st.floats(1, 500), st.floats(0.001, 0.3), st.floats(1e-6, 1e-3),
)  # fmt: skip
def test_planted_coefficients_are_found(lam: float, sigma: float, kappa: float) -> None:
    """Exact data over a wide range of loads give the law back that made them."""
    loads = (1, 2, 5, 10, 20, 50, 100, 200, 400)
    law = fit([(n, lam * n / (1 + sigma * (n - 1) + kappa * n * (n - 1))) for n in loads])
    assert law.lam.value == pytest.approx(lam, rel=0.01)
    assert law.sigma.value == pytest.approx(sigma, rel=0.02, abs=1e-5)
    assert law.kappa.value == pytest.approx(kappa, rel=0.02, abs=1e-7)
    assert law.r_squared == pytest.approx(1)


def test_five_different_loads_are_too_few() -> None:
    """Repeats of one load add no point of the curve."""
    with pytest.raises(UserError, match="at least 6 different concurrencies, got 5"):
        fit([*SDM91[:5], *SDM91[:5]])


@pytest.mark.parametrize("wrong", [(0, 5), (3, 0), (-1, 5), (3, float("nan"))])
def test_values_that_cannot_be_measured_are_refused(wrong: tuple[float, float]) -> None:
    """No load, no work, or no number."""
    with pytest.raises(UserError, match="above 0"):
        fit([*SDM91, wrong])


def test_a_file_is_read_and_its_mistakes_are_named(tmp_path: Path) -> None:
    """The header and the line of the first mistake."""
    path = tmp_path / "x.csv"
    path.write_text("concurrency,throughput\n1,64.9\n\n18,995.9\n")
    assert read_points(path) == [(1, 64.9), (18, 995.9)]
    path.write_text("users,throughput\n1,64.9\n")
    with pytest.raises(UserError, match=r"x\.csv:1: expected the header concurrency,throughput"):
        read_points(path)
    path.write_text("concurrency,throughput\n1,64.9\n18,fast\n")
    with pytest.raises(UserError, match=r"x\.csv:3: expected two numbers.*got 18,fast"):
        read_points(path)
    with pytest.raises(UserError, match="cannot read it"):
        read_points(tmp_path / "nosuch.csv")


def test_coefficients_are_said_with_five_digits() -> None:
    """λ, σ and κ, each with its interval."""
    text = in_words(fit(SDM91))
    assert "λ = 89.995 " in text
    assert "σ = 0.027728 " in text
    assert "κ = 0.00010437 " in text
    assert "Peak: 1883" in text
