"""What the configuration takes, and what it says to what it does not take."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.config.schema import ITEMS, ConfigError, checked, defaults_of, duration_text, flat
from runtime.settings import load_settings, parse_duration


def test_every_key_has_a_default_that_it_takes() -> None:
    """The environment's values are valid values, and there is one for each key."""
    defaults = defaults_of(load_settings({"OPENAI_API_BASE_URLS": "http://a/v1;http://b/v1"}))
    assert defaults.keys() == ITEMS.keys()
    assert {key: checked(key, value) for key, value in defaults.items()} == defaults
    assert defaults["openai.api_base_urls"] == ["http://a/v1", "http://b/v1"]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("auth.jwt_expiry", "0s", "no duration"),
        ("auth.jwt_expiry", "-5m", "no duration"),
        ("auth.jwt_expiry", "4 weeks", "no duration"),
        ("auth.jwt_expiry", 60, "valid string"),
        ("models.base_models_cache", "yes", "valid boolean"),
        ("models.base_models_cache", 1, "valid boolean"),
        ("openai.api_base_urls", ["ftp://x"], "[0]: must be an http://"),
        ("openai.api_base_urls", "http://x", "valid list"),
        ("openai.api_base_urls", ["http://[x"], "[0]:"),
        ("openai.api_keys", ["a\nb"], "[0]:"),
        ("ui.default_models", "x" * (1 << 20), "longer than"),
        ("openai.api_configs", {"0": {"enable": "no"}}, "['0']['enable']"),
        ("ui.model_order_list", [1], "valid string"),
        ("auth.jwt_expiri", "4w", "did you mean `auth.jwt_expiry`?"),
        ("x", 1, "known are auth.jwt_expiry,"),
    ],
)
def test_a_refusal_names_key_and_reason(key: str, value: Any, said: str) -> None:
    """A wrong key or value is refused with what it is and what was expected."""
    with pytest.raises(ConfigError) as caught:
        checked(key, value)
    assert f"`{key}`" in str(caught.value)
    assert said in str(caught.value)


def test_refusals_do_not_repeat_secrets() -> None:
    """What was sent as API keys is not said back, so that it does not reach a log."""
    with pytest.raises(ConfigError) as caught:
        checked("openai.api_keys", [{"sk": "secret"}])
    assert "secret" not in str(caught.value)


@given(st.none() | st.integers(1, 10**9))
def test_durations_read_back_as_they_were(seconds: int | None) -> None:
    """The shortest text of a duration means the same duration."""
    assert parse_duration(duration_text(seconds)) == seconds


def test_nested_exports_are_flattened() -> None:
    """Older exports nest; objects that are values stay whole; unknown keys stay visible."""
    nested: dict[str, Any] = {
        "auth": {"jwt_expiry": "1h"},
        "openai": {"api_configs": {"0": {}}},
        "ui.x": 1,
        "y": {},
    }
    assert flat(nested) == {
        "auth.jwt_expiry": "1h",
        "openai.api_configs": {"0": {}},
        "ui.x": 1,
        "y": {},
    }


def test_an_empty_variable_does_not_hide_its_other_name() -> None:
    """Compose files often pass both names on, one of them empty."""
    both = {"OPENAI_API_BASE_URL": "", "OPENAI_API_BASE_URLS": "http://a/v1"}
    assert load_settings(both).provider_urls == ("http://a/v1",)
