"""Spans on their way from OTLP to the history, and which operations have a trace."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from harness.clock import RunClock
from harness.commands import options
from harness.errors import UserError
from harness.history.reader import read_history
from harness.history.writer import HistoryWriter
from harness.options import RunOptions
from harness.scenario import Scenario
from harness.targets.external.description import Flags
from harness.telemetry_specs import Telemetry
from harness.traces.forward import ForwardTo
from harness.traces.identity import TraceIdentity
from harness.traces.otlp import MAX_TEXT, parse_export, span_records
from harness.traces.store import SpanStore
from runtime.telemetry.tracing import parse_traceparent

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def export(instance: str = "worker-3", name: str = "GET") -> ExportTraceServiceRequest:
    """Return an export of one span of 5 ms, as a worker sends it."""
    request = ExportTraceServiceRequest()
    batch = request.resource_spans.add()
    who = batch.resource.attributes.add()
    who.key, who.value.string_value = "service.instance.id", instance
    span = batch.scope_spans.add().spans.add()
    span.trace_id, span.span_id = bytes.fromhex(TRACE), bytes.fromhex(SPAN)
    span.name, span.kind = name, 3
    span.end_time_unix_nano = time.time_ns()
    span.start_time_unix_nano = span.end_time_unix_nano - 5_000_000
    for key, value in (("db.system.name", "redis"), ("db.statement", "x" * 9000)):
        pair = span.attributes.add()
        pair.key, pair.value.string_value = key, value
    port = span.attributes.add()
    port.key, port.value.int_value = "server.port", 6379
    return request


def test_a_span_becomes_a_record_on_the_run_s_clock() -> None:
    """Ids in hexadecimal, the worker's number, times in run seconds, long texts cut."""
    clock = RunClock()
    [record] = span_records(export(), clock)
    assert record["t"] - record["t0"] == pytest.approx(0.005, abs=1e-5)
    assert abs(record["t"] - clock.now()) < 60
    assert (record["trace"], record["span"], record["parent"]) == (TRACE, SPAN, "")
    assert (record["k"], record["kind"], record["worker"]) == ("span", "client", 3)
    assert record["attributes"]["server.port"] == 6379
    assert len(record["attributes"]["db.statement"]) == MAX_TEXT
    assert "error" not in record


def test_a_span_of_somebody_else_names_its_instance() -> None:
    """Only the harness's own workers have numbers."""
    [record] = span_records(export("api-7"), RunClock())
    assert "worker" not in record
    assert record["instance"] == "api-7"


def test_what_is_no_export_is_refused_in_words() -> None:
    """The exporter's log then says what was expected."""
    with pytest.raises(ValueError, match="expected an ExportTraceServiceRequest"):
        parse_export(b"{}")


def _span(trace: int, number: int) -> dict[str, object]:
    return {"t": 1.0, "k": "span", "t0": 0.5, "trace": f"{trace}", "span": f"{trace}-{number}"}


def test_the_store_keeps_whole_traces_up_to_its_bound(tmp_path: Path) -> None:
    """Beyond it no trace is begun; what was begun goes on for a while; the rest is counted."""
    store = SpanStore(HistoryWriter(tmp_path, "spans", RunClock()), 4)
    store.take(_span(trace, 0) for trace in range(4))
    store.take([_span(9, 0), _span(1, 1), _span(2, 1)])
    assert (store.kept, store.dropped) == (5, 2)
    written = [r["span"] for r in read_history(tmp_path) if r["k"] == "span"]
    assert sorted(written) == ["0-0", "1-0", "1-1", "2-0", "3-0"]


@pytest.mark.parametrize(("share", "least", "most"), [(1.0, 2000, 2000), (0.25, 350, 650)])
def test_a_share_of_operations_has_a_trace(share: float, least: int, most: int) -> None:
    """The rest says that it has none, so that workers do not choose by themselves."""
    made = [TraceIdentity.new(share) for _ in range(2000)]
    assert least <= sum(identity.sampled for identity in made) <= most
    assert len({identity.trace for identity in made}) == 2000
    for identity in made[:50]:
        found = parse_traceparent(identity.traceparent)
        assert found is not None
        assert f"{found.trace_id:032x}" == identity.trace
        assert found.trace_flags.sampled == identity.sampled


STORY = {"name": "x", "story": "A scenario about the key telemetry.", "topology": "standalone"}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (True, Telemetry()),
        ("on", Telemetry()),
        ({"sample": 0.1}, Telemetry(sample=0.1)),
        (False, None),
        ("off", None),
        (None, None),
    ],
)
def test_telemetry_is_on_off_or_a_section(given: object, wanted: Telemetry | None) -> None:
    """And a saved plan is read back as it was."""
    scenario = Scenario.model_validate({**STORY, "telemetry": given})
    assert scenario.telemetry == wanted
    again = Scenario.model_validate(scenario.model_dump(mode="json"))
    assert again.telemetry == wanted


@pytest.mark.parametrize(
    ("given", "words"),
    [("yes please", "expected on, off"), ({"sample": 0}, "greater than 0")],
)
def test_a_wrong_section_is_explained(given: object, words: str) -> None:
    """Half a word turns nothing on."""
    with pytest.raises(ValueError, match=words):
        Scenario.model_validate({**STORY, "telemetry": given})


def test_a_guarantee_about_traces_needs_telemetry() -> None:
    """A scenario that selects one and makes no traces would prove nothing."""
    with pytest.raises(ValueError, match="add `telemetry: on`"):
        Scenario.model_validate({**STORY, "guarantees": ["stop-trace-crosses"]})


def test_forwarding_turns_telemetry_on_and_is_repeated() -> None:
    """Who wants the spans elsewhere wants spans; the command of a rerun says it too."""
    to = ForwardTo.parse("http://127.0.0.1:4318/v1/traces", ())
    chosen = RunOptions(seed=1, forward=to)
    assert chosen.apply(Scenario.model_validate(STORY)).telemetry == Telemetry()
    sampled = Scenario.model_validate({**STORY, "telemetry": {"sample": 0.5}})
    assert chosen.apply(sampled).telemetry == Telemetry(sample=0.5)
    assert chosen.command_line("x").endswith("--otlp-forward http://127.0.0.1:4318")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("127.0.0.1:4317", "expected the base URL"),
        ("http://me:secret@127.0.0.1:4318", "without a password"),
        ("http://192.0.2.7:4318", "--allow-host 192.0.2.7"),
    ],
)
def test_spans_go_to_ourselves_or_to_whom_we_allow(url: str, words: str) -> None:
    """Where a run's spans go is never an accident."""
    with pytest.raises(UserError, match=words):
        ForwardTo.parse(url, ())


def test_a_host_that_is_allowed_gets_spans() -> None:
    """The rerun's command allows it as well."""
    to = ForwardTo.parse("http://192.0.2.7:4318/", ("192.0.2.7",))
    assert to.words == ["--otlp-forward", "http://192.0.2.7:4318", "--allow-host", "192.0.2.7"]


def _external(folder: Path) -> Flags:
    """Return the flags of a deployment that runs already."""
    accounts = folder / "accounts.yaml"
    accounts.write_text("[{email: a@load.example, password: x}]")
    return Flags(url=("http://127.0.0.1:1",), accounts=accounts)


def test_an_external_deployment_sends_its_spans_by_itself(tmp_path: Path) -> None:
    """Its variables are not ours: no traces there, and nothing to send on."""
    flags = _external(tmp_path)
    chosen = options(flags=flags, target="external")
    assert chosen.apply(Scenario.model_validate({**STORY, "telemetry": True})).telemetry is None
    with pytest.raises(UserError, match="is its own"):
        options(flags=flags, target="external", otlp_forward="http://127.0.0.1:4318")
