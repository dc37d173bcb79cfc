"""The OTEL_* family: names, inheritance, defaults by transport, and mistakes."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.settings import SettingsError, load_settings
from runtime.telemetry.exporters import headers_of
from runtime.telemetry.options import Signal
from runtime.telemetry.setup import resource_of

SIGNALS: tuple[Signal, ...] = ("traces", "metrics", "logs")


def _settings(**environ: str) -> Any:
    return load_settings({"ENABLE_OTEL": "true", **environ})


def test_everything_is_off_unless_enabled() -> None:
    """ENABLE_OTEL is the one switch; it turns traces on, the rest is asked for."""
    off = load_settings({"ENABLE_OTEL_METRICS": "true", "ENABLE_OTEL_LOGS": "true"})
    assert not any(off.sends(signal) for signal in SIGNALS)
    assert [_settings().sends(signal) for signal in SIGNALS] == [True, False, False]
    every = _settings(ENABLE_OTEL_METRICS="1", ENABLE_OTEL_LOGS="1", ENABLE_OTEL_TRACES="0")
    assert [every.sends(signal) for signal in SIGNALS] == [False, True, True]
    pulled = _settings(ENABLE_OTEL_METRICS="1", OTEL_METRICS_EXPORTER="prometheus")
    assert not pulled.sends("metrics")


@pytest.mark.parametrize(
    ("environ", "signal", "endpoint"),
    [
        ({}, "traces", "http://localhost:4317"),
        ({"OTEL_OTLP_SPAN_EXPORTER": "http"}, "traces", "http://localhost:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "logs", "http://localhost:4318/v1/logs"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:1"}, "metrics", "http://c:1"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:1/", "OTEL_EXPORTER_OTLP_PROTOCOL": "http"},
            "metrics",
            "http://c:1/v1/metrics",
        ),
        (
            {
                "OTEL_METRICS_EXPORTER_OTLP_ENDPOINT": "https://m:2/v1/metrics",
                "OTEL_METRICS_OTLP_SPAN_EXPORTER": "http",
            },
            "metrics",
            "https://m:2/v1/metrics",
        ),
        ({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://l:3"}, "logs", "http://l:3"),
    ],
)
def test_endpoints(environ: dict[str, str], signal: Signal, endpoint: str) -> None:
    """The default port follows the transport; by HTTP each signal has its path."""
    assert _settings(**environ).otlp_endpoint(signal) == endpoint


def test_service_has_a_name() -> None:
    """OTEL_SERVICE_NAME, or `open-webui`, is the resource's `service.name`."""
    assert resource_of(_settings(), "w0").attributes["service.name"] == "open-webui"
    named = resource_of(_settings(OTEL_SERVICE_NAME="chat"), "w0")
    assert named.attributes["service.name"] == "chat"


@pytest.mark.parametrize(
    ("endpoint", "flag", "insecure"),
    [
        ("http://c:1", "false", True),
        ("https://c:1", "true", False),
        ("c:1", "true", True),
        ("c:1", "false", False),
    ],
)
def test_tls_follows_the_scheme_then_the_flag(endpoint: str, flag: str, insecure: bool) -> None:
    """A plain endpoint works with the default flag, which upstream's does not."""
    found = _settings(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_EXPORTER_OTLP_INSECURE=flag)
    assert found.otlp_insecure("logs") is insecure


def test_credentials_are_inherited_and_sent_as_basic() -> None:
    """Metrics use their own user, logs that of all; other headers go along."""
    found = _settings(
        OTEL_BASIC_AUTH_USERNAME="all",
        OTEL_BASIC_AUTH_PASSWORD="p",
        OTEL_METRICS_BASIC_AUTH_USERNAME="m",
        OTEL_METRICS_BASIC_AUTH_PASSWORD="q",
        OTEL_EXPORTER_OTLP_HEADERS="X-Scope=a=b",
    )
    assert found.otlp_credentials("metrics") == ("m", "q")
    assert headers_of(found, "logs") == {"authorization": "Basic YWxsOnA=", "x-scope": "a=b"}


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"OTEL_TRACES_SAMPLER": "sometimes"}, "OTEL_TRACES_SAMPLER=sometimes"),
        ({"OTEL_TRACES_SAMPLER_ARG": "2"}, "OTEL_TRACES_SAMPLER_ARG=2"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "a"}, "name=value"),
        ({"OTEL_BASIC_AUTH_USERNAME": "a"}, "must be set both"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "ftp://c"}, "http://host:port"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://u:secret@c:1"}, "OTEL_BASIC_AUTH_"),
        ({"OTEL_METRICS_EXPORT_INTERVAL_MILLIS": "soon"}, "OTEL_METRICS_EXPORT_INTERVAL_MILLIS"),
        ({"METRICS_TOKEN": "short"}, "METRICS_TOKEN"),
        ({"SRC_LOG_LEVELS": '{"FOO": "INFO"}'}, "FOO"),
        ({"SRC_LOG_LEVELS": '{"REDIS": "LOUD"}'}, "LOUD"),
    ],
)
def test_mistakes_are_named_and_no_secret_is_shown(environ: dict[str, str], words: str) -> None:
    """Each wrong value is refused at start, in one line."""
    with pytest.raises(SettingsError) as caught:
        _settings(**environ)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "short" not in str(caught.value).replace("shorter", "")
