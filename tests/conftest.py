"""What all tests share."""

from collections.abc import Generator

import pytest
from hypothesis import settings

settings.register_profile("noisy-machine", deadline=None)  # unit tests are not timed
settings.load_profile("noisy-machine")

FAILED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --open-webui."""
    parser.addoption("--open-webui", action="store_true", help="also slow proofs on Open WebUI")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note that a test failed, for its teardown."""
    report = yield
    item.stash[FAILED] = report.failed or (report.when != "setup" and item.stash[FAILED])
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Take down every shared fixture after a failure.

    The failed test's next try, and the tests behind it, get new servers: what it left in the
    shared ones (a killed worker, a key) would fail them too.
    """
    if item.stash[FAILED]:
        item.session._setupstate.teardown_exact(None)  # no public way
    return (yield)
