"""External deployments: what is said of them, whom the load may reach, what is refused."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest

from harness.deploy import clean, undo
from harness.deploy.folder import RunFolder
from harness.errors import UserError
from harness.load.abort import AbortWatch, Condition
from harness.load.rate import BURST_S, Rate
from harness.options import RunOptions, load_with_options
from harness.plan import make_plan
from harness.replay import require_ours
from harness.scenario import Scenario, load_scenario
from harness.targets.external.accounts import needed, require_enough
from harness.targets.external.announce import requests, require_rate
from harness.targets.external.description import PASSWORD, External, Flags, describe
from harness.targets.external.fit import fitted, misfit
from harness.targets.external.hosts import require_allowed

SCENARIOS = Path(__file__).parents[2] / "scenarios"
URL = "http://127.0.0.1:8081"
TOXIPROXY = {"url": "http://127.0.0.1:8474", "proxies": [{"name": "p", "worker": 0}]}


def _scenario(name: str = "baseline-standalone") -> Scenario:
    return load_scenario(SCENARIOS / f"{name}.yaml")


def _told(**more: Any) -> External:
    return External.model_validate({"urls": (URL, URL), **more})


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD, "secret")


def test_flags_and_file_make_one_description(tmp_path: Path) -> None:
    """Flags win; the accounts' file lies beside the description; the password is the variable's."""
    (tmp_path / "a.yaml").write_text("- {email: a@x, password: p}\n")
    path = tmp_path / "e.yaml"
    path.write_text(f"urls: [{URL}]\naccounts: a.yaml\nmax_rate: 5\nadmin: {{email: r@x}}\n")
    told = describe(Flags(external=path, max_rate=7.0, url=("http://127.0.0.2:1/",)), None)
    assert told is not None
    assert (told.urls, told.max_rate) == (("http://127.0.0.2:1",), 7.0)
    assert told.admin is not None
    assert told.admin.password == "secret"
    assert [login.email for login in told.accounts] == ["a@x"]
    assert "secret" not in repr(told) + told.source
    assert told.source.startswith("--target external --external ")


def test_without_a_word_about_it_there_is_no_description() -> None:
    """Other targets are not concerned, unless somebody mixes them up."""
    assert describe(Flags(), None) is None
    assert describe(Flags(), "stock") is None
    with pytest.raises(UserError, match="--url is for --target external, not for --target stock"):
        describe(Flags(url=(URL,)), "stock")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({}, "where is the external deployment"),
        ({"url": (URL,)}, "who may sign in"),
        ({"url": ("127.0.0.1:80",)}, "a URL without a scheme; expected http://HOST:PORT"),
        ({"url": ("https://127.0.0.1",)}, "TLS is not spoken here"),
        ({"url": ("ftp://127.0.0.1",)}, "expected http://HOST:PORT, such as"),
        ({"url": ("http://127.0.0.1:x",)}, "expected http://HOST:PORT, such as"),
        ({"url": (URL,), "redis": ("127.0.0.1:6379",)}, "expected redis://HOST:PORT or rediss"),
    ],
)
def test_mistakes_in_flags_have_one_clear_line(flags: dict[str, Any], said: str) -> None:
    """What came, what was expected."""
    admin = "r@x" if said != "who may sign in" else None
    with pytest.raises(UserError, match=said) as error:
        describe(Flags(**flags, admin=admin), "external")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("urls: [", "not valid YAML"),
        ("- a", "expected keys such as `urls:`"),
        ("urls: [http://127.0.0.1]\nurl: x", "url: unknown key; did you mean `urls`? known: urls,"),
        (
            "urls: [http://127.0.0.1]\ntoxiproxy: {urls: a}",
            "toxiproxy.urls: unknown key; did you mean `url`? known: url, proxies",
        ),
        ("allowed: [h]", "does not stand in a file"),
        (
            "urls: [http://127.0.0.1]\ncapabilities: [redy]",
            "no such capability `redy`; did you mean `ready`? known: ",
        ),
        ("urls: [http://127.0.0.1]\naccounts: none.yaml", "none.yaml: cannot read it"),
    ],
)
def test_mistakes_in_the_file_have_one_clear_line(tmp_path: Path, text: str, said: str) -> None:
    """The file is named, and the key."""
    path = tmp_path / "e.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(said)) as error:
        describe(Flags(external=path, admin="r@x"), None)
    assert "\n" not in str(error.value)


def test_no_password_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """It never comes from the command line."""
    monkeypatch.delenv(PASSWORD)
    with pytest.raises(UserError, match=f"no password for the admin r@x: .* {PASSWORD}"):
        describe(Flags(url=(URL,), admin="r@x"), None)


def test_only_loopback_and_named_hosts_are_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every address of a name counts, also one that hides in IPv6."""
    require_allowed(["http://127.9.9.9:1", "http://[::1]:1", "http://[::ffff:127.0.0.1]:1"], ())
    require_allowed(["redis://192.0.2.1"], {"192.0.2.1"})
    for url in ("http://192.0.2.1", "http://[::ffff:192.0.2.1]:80", "http://0.0.0.0:80"):
        with pytest.raises(UserError, match="is not this machine"):
            require_allowed([url], ())

    def both(*_: Any, **__: Any) -> list[Any]:
        return [(0, 0, 0, "", ("127.0.0.1", 0)), (0, 0, 0, "", ("192.0.2.7", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with pytest.raises(UserError, match=r"app \(192\.0\.2\.7\) is not .* --allow-host app"):
        require_allowed(["http://app:80"], ())


def test_an_unknown_host_is_said() -> None:
    """A name without an address is the user's to mend."""
    with pytest.raises(UserError, match=r"the host `nowhere\.invalid` has no address"):
        require_allowed(["http://nowhere.invalid"], ())


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("standalone-restart", {}, "needs a deployment that the harness has started"),
        ("one-worker-reset", {}, "name a Toxiproxy"),
        ("one-worker-reset", {"toxiproxy": TOXIPROXY}, "deployment is of no known topology"),
        ("standalone-latency", {"toxiproxy": TOXIPROXY, "topology": "standalone"}, ""),
        ("standalone-restart", {"without_faults": True}, ""),
        ("negative/twins-on-one-prefix", {}, "a neighbour needs a deployment"),
        ("negative/twins-on-one-prefix", {"without_faults": True}, ""),
        ("baseline-standalone", {}, ""),
    ],
)
def test_faults_that_cannot_be_done_there_are_named(name: str, more: Any, said: str) -> None:
    """By name and with the reason; the rest fits."""
    assert (said in misfit(_scenario(name), _told(**more))) is True
    assert bool(misfit(_scenario(name), _told(**more))) is bool(said)


def test_a_scenario_is_fitted_to_the_deployment() -> None:
    """Its workers are the URLs; what nobody could count is not asked for."""
    scenario = fitted(_scenario("nginx-restart"), _told(without_faults=True))
    assert (scenario.workers, scenario.balancer, scenario.faults) == (2, "none", ())
    assert scenario.focus.stops_per_s == 0
    assert not {"stops", "streams"} & scenario.enough.keys()
    chatting = fitted(_scenario(), _told(provider="http://127.0.0.1:9000/v1"))
    assert chatting.focus.stops_per_s > 0
    assert chatting.enough == _scenario().enough


def test_the_command_line_of_a_run_names_the_deployment() -> None:
    """Whoever copies it runs the same thing; passwords are not in it."""
    told = describe(Flags(url=(URL,), admin="r@x"), None)
    options = RunOptions(seed=3, external=told, abort_on=Condition.parse("errors>5%"))
    line = options.command_line("x")
    assert "--target external --url http://127.0.0.1:8081 --admin r@x" in line
    assert "--abort-on 'errors>5%'" in line
    scenario = load_with_options(SCENARIOS / "baseline-standalone.yaml", options)
    assert (scenario.target, scenario.workers) == ("external", 1)


def test_a_scenario_above_the_rate_is_refused_with_its_figures() -> None:
    """The sum is of users, timetable and probes."""
    told = _told(provider="http://127.0.0.1:9000/v1", max_rate=10)
    scenario = fitted(_scenario(), told)
    asked = requests(scenario, told, frozenset())
    assert asked.peak >= scenario.load.reads_per_s + 2 * scenario.focus.stops_per_s
    with pytest.raises(UserError, match=f"plans about {asked.peak} requests/s"):
        require_rate(scenario, told, asked)


def test_too_few_accounts_are_refused_with_the_count() -> None:
    """Users, canary and those whose tokens are signed out."""
    plan = make_plan(_scenario(), 1)
    told = _told(accounts=[{"email": "a@x", "password": "p"}])
    with pytest.raises(UserError, match=f"1 given, and {needed(plan)} are needed"):
        require_enough(plan, told)


@pytest.mark.parametrize(
    "text", ["", "errors", "errors>", "errors>101%", "p99>2s", "errors>5% for 0s"]
)
def test_conditions_have_one_grammar(text: str) -> None:
    """Anything else is refused with an example."""
    with pytest.raises(UserError, match="expected errors>N%"):
        Condition.parse(text)


def test_the_load_is_ended_on_a_full_window_with_enough_operations() -> None:
    """Not before the window has passed, not on a handful, not at the bound itself."""
    few = AbortWatch(Condition.parse("errors > 5%"))
    assert [few.sample(t, 2 * t, 2 * t) for t in range(9)] == [""] * 9
    at_bound = AbortWatch(Condition.parse("errors>50%"))
    assert [at_bound.sample(t, 100 * t, 50 * t) for t in range(9)] == [""] * 9
    watch = AbortWatch(Condition.parse("errors>5% for 2s"))
    said = [watch.sample(t, 100 * t, 10 * max(0, t - 4)) for t in range(8)]
    assert said[:6] == [""] * 5 + [""] or said.index(next(filter(None, said))) in (5, 6)
    assert "of 200 operations" in next(filter(None, said))


def test_requests_are_spaced_after_a_small_burst() -> None:
    """However many come at once, a second has no more than its share, and the burst."""
    rate = Rate(10, lambda: 100.0)
    waits = [rate.take() for _ in range(30)]
    assert sum(wait < 1 for wait in waits) <= 10 * (1 + BURST_S)
    assert waits[-1] == pytest.approx(3 - BURST_S)
    assert (rate.late, rate.longest) == (sum(w > 0.5 for w in waits), waits[-1])
    assert Rate(0, lambda: 0.0).take() == 0.0


def test_what_cannot_be_taken_back_is_said(tmp_path: Path) -> None:
    """Nobody answers: a sentence each, and no exception; a line that was cut is left out."""
    path = tmp_path / "undo.jsonl"
    nobody = "http://127.0.0.1:1"
    path.write_text(
        f'{{"toxiproxy": "{nobody}", "proxies": ["a"]}}\n'
        f'{{"app": "{nobody}", "token": "t", "prefix": "p"}}\n'
        '{"account": "cut'
    )
    said = undo.take_back(path)
    assert [sentence.split(":")[0] for sentence in said] == ["heal", "remove"]
    assert all("failed: ConnectionRefusedError" in sentence for sentence in said)


def test_clean_takes_back_what_a_killed_guardian_could_not(tmp_path: Path) -> None:
    """The file of what to take back lies in the run's data, which is removed after."""
    run = RunFolder.create(tmp_path / "run")
    run.undo.write_text('{"toxiproxy": "http://127.0.0.1:1", "proxies": []}\n')
    registry = tmp_path / "run.jsonl"
    registry.write_text("")
    said, ended = clean._end(clean.Entry(registry, 1, 0, run.root, frozenset()))
    assert ended
    assert "removed its data; heal: failed" in said
    assert not run.data.exists()


def test_a_run_on_an_external_deployment_is_not_replayed(tmp_path: Path) -> None:
    """Its command is named instead."""
    run = RunFolder.create(tmp_path / "run")
    (run.root / "run.json").write_text('{"command": "harness run x --seed 1"}')
    scenario = fitted(_scenario(), _told())
    with pytest.raises(UserError, match="run the same plan by `harness run x --seed 1`"):
        require_ours(run, scenario)
