"""The second try of a failed test begins with new servers."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

TESTS = """
    import pytest

    made = []

    @pytest.fixture(scope="module")
    def server():
        made.append("up")
        yield made
        made.append("down")

    def test_passes(server):
        assert made == ["up"]

    def test_fails_once(server):
        assert made == ["up", "down", "up"]

    def test_behind(server):
        assert made == ["up", "down", "up"]
"""


def test_a_second_try_gets_new_shared_fixtures(pytester: pytest.Pytester) -> None:
    """The module's fixture is taken down before the second try, and not after one that passed."""
    pytester.makeconftest(Path(__file__).parents[1].joinpath("conftest.py").read_text())
    pytester.makepyfile(TESTS)
    found = pytester.runpytest_subprocess("--reruns=1", "-p", "no:cacheprovider")
    found.stdout.fnmatch_lines(["*3 passed, 1 rerun*"])
