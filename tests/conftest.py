"""What all tests share."""

import pytest
from hypothesis import settings

settings.register_profile("noisy-machine", deadline=None)  # unit tests are not timed
settings.load_profile("noisy-machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --open-webui."""
    parser.addoption("--open-webui", action="store_true", help="also slow proofs on Open WebUI")
