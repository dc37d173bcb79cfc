"""Runs against deployments that were started by hand: real workers, Redis, Toxiproxy, nginx."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from harness.deploy.balancer import find_nginx
from harness.network.toxiproxy import find_toxiproxy
from harness.waiting import wait_for
from tests.integration.app_deployment import REDIS, SUBNET, Deployment
from tests.integration.external_parts import (
    ADMIN,
    API,
    PASSWORD,
    PROVIDER,
    by_hand,
    emails,
    proxies,
    sign_up,
    stock_behind_nginx,
)
from tests.integration.harness_cli import (
    ROOT,
    command,
    environment,
    harness,
    only_run,
    processes_naming,
    scenario_text,
    summary,
)

SECRET = {"HARNESS_ADMIN_PASSWORD": PASSWORD}
LIGHT = {
    "load": "{users: 4, reads_per_s: 3, chats: {tokens: 20, tokens_per_s: 10}}",
    "focus": "{stops_per_s: 2, sign_outs_per_s: 1, canaries_per_s: 2, after_s: 2}",
}
CUT = "[{kind: cut, mode: refused, workers: 'worker:0', at: 1, for_s: %s}]"
pytestmark = pytest.mark.skipif(find_toxiproxy() is None, reason="toxiproxy-server is missing")


def _files(folder: Path, parts: Deployment, **scenario: str) -> tuple[Path, Path]:
    """Write a scenario and the description of a deployment; return both."""
    path = folder / "scenario.yaml"
    path.write_text(scenario_text(**{**LIGHT, **scenario}))
    told = {
        "urls": parts.urls,
        "admin": {"email": ADMIN},
        "provider": PROVIDER,
        "topology": "standalone",
        "redis": [f"redis://{REDIS}:6379"],
        "toxiproxy": {"url": API, "proxies": [{"name": f"w{n}", "worker": n} for n in (0, 1)]},
    }
    external = folder / "external.yaml"
    external.write_text(yaml.safe_dump(told))
    return path, external


def _findings(reports: Path) -> dict[str, Any]:
    found = orjson.loads((only_run(reports) / "summary.json").read_bytes())["findings"]
    return {finding["name"]: finding for finding in found}


def _start(words: list[str], path: Path) -> subprocess.Popen[bytes]:
    with path.open("w") as log:
        return subprocess.Popen(words, cwd=ROOT, env=environment(**SECRET), stdout=log, stderr=log)


async def _clean(parts: Deployment, token: str) -> None:
    """Assert that the deployment is as it was before the run."""

    async def healed() -> bool:
        return all(p["enabled"] and not p["toxics"] for p in (await proxies()).values())

    async def alone() -> bool:
        return await emails(parts.urls[0], token) == [ADMIN]

    await wait_for(healed, 20, "Toxiproxy is as it was")
    await wait_for(alone, 20, "the run's accounts are gone")


async def test_a_run_with_a_fault_is_judged_and_leaves_nothing(tmp_path: Path) -> None:
    """A link is cut by the user's Toxiproxy; stops are judged by the harness's provider."""
    async with by_hand(tmp_path) as parts:
        token = await sign_up(parts.urls[0])
        scenario, external = _files(tmp_path, parts, duration_s="6", faults=CUT % 2)
        reports = tmp_path / "reports"
        words = ("run", scenario, "--external", external, "--reports", reports)
        done = await asyncio.to_thread(harness, *words, timeout=200, **SECRET)
        assert done.returncode in (0, 1, 2), done.stdout + done.stderr
        said = done.stderr.index("will make")
        assert said < done.stderr.index("phase deploy"), "it is said before it is done"
        found = _findings(reports)
        assert found["fault-really-happened"]["verdict"] == "pass", found["fault-really-happened"]
        assert found["stop-ends-task"]["quantities"]["stops"] > 0
        assert found["load-healthy"]["verdict"] == "pass", found["load-healthy"]
        refused = {name for name, finding in found.items() if not finding["applicable"]}
        assert {"loop-stall", "connections-bounded-and-back", "workers-alive"} <= refused
        assert not refused & {"session-read-your-writes", "ready-truthful", "stop-is-truthful"}
        assert "removed 0 of" not in done.stderr
        await _clean(parts, token)
        assert PASSWORD not in "".join(p.read_text() for p in only_run(reports).glob("*.json"))


async def test_sigkill_during_a_fault_heals_the_links_and_removes_the_accounts(
    tmp_path: Path,
) -> None:
    """The guardian takes back what the harness cannot any more."""
    async with by_hand(tmp_path) as parts:
        token = await sign_up(parts.urls[0])
        scenario, external = _files(tmp_path, parts, duration_s="60", faults=CUT % 50)
        words = command("run", scenario, "--external", external, "--reports", tmp_path / "reports")
        process = _start(words, tmp_path / "harness.log")

        async def cut() -> bool:
            assert process.poll() is None, (tmp_path / "harness.log").read_text()
            return not (await proxies())["w0"]["enabled"]

        try:
            await wait_for(cut, 120, "the link is cut")
            assert len(await emails(parts.urls[0], token)) > 1
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        await _clean(parts, token)
        run = str(only_run(tmp_path / "reports"))
        await wait_for(lambda: not processes_naming(run), 20, "the run's processes end")


async def test_a_load_with_too_many_errors_is_ended_early(tmp_path: Path) -> None:
    """Redis goes away for good: the condition comes true, and the exit code is its own."""
    async with by_hand(tmp_path) as parts:
        token = await sign_up(parts.urls[0])
        scenario, external = _files(
            tmp_path, parts, duration_s="120", story=repr("Ends early." * 3)
        )
        reports = tmp_path / "reports"
        words = ("run", scenario, "--external", external, "--reports", reports)
        run = asyncio.create_task(
            asyncio.to_thread(harness, *words, "--abort-on", "errors>5%", timeout=200, **SECRET)
        )
        started = reports.glob

        def loading() -> bool:
            return any(True for _ in started("*/data/start.json"))

        await wait_for(loading, 120, "the load begins")
        await parts.redis.stop(kill=True)
        done = await run
        assert done.returncode == 5, done.stdout + done.stderr
        assert "the load is ended early: --abort-on errors>5%" in done.stderr
        assert summary(reports)["headline"].startswith("Ended early")  # type: ignore[attr-defined]  # text
        await _clean(parts, token)


async def test_mistakes_have_one_clear_line_each(tmp_path: Path) -> None:
    """Nothing is done to a deployment that was not described rightly."""
    async with by_hand(tmp_path) as parts:
        await sign_up(parts.urls[0])
        path, external = _files(tmp_path, parts, faults=CUT % 2)
        kill = tmp_path / "kill.yaml"
        kill.write_text(scenario_text(faults="[{kind: kill, target: primary, at: 1, for_s: 2}]"))
        plain = tmp_path / "plain.yaml"
        plain.write_text(scenario_text())
        url, admin = ("--url", parts.urls[0]), ("--admin", ADMIN)
        whole = ("--external", external)
        cases: list[tuple[tuple[Any, ...], int, str]] = [
            ((plain, "--url", "127.0.0.1:80", *admin), 3, "a URL without a scheme"),
            ((plain, "--url", f"http://{SUBNET}.99:1", *admin), 3, "nobody answers"),
            ((plain, "--url", API, *admin), 3, "not an app of this kind"),
            ((plain, *url, "--admin", "nobody@x.example"), 3, "sign-in of nobody@x.example"),
            ((plain, "--url", "http://192.0.2.1", *admin), 3, "--allow-host 192.0.2.1"),
            ((plain, *url), 3, "who may sign in?"),
            ((path, *whole, "--max-rate", "3"), 3, "requests/s at its peak"),
            ((path, *url, *admin), 4, "name a Toxiproxy"),
            ((kill, *whole), 4, "fault kill primary needs a deployment that the harness"),
            ((path, *whole, "--abort-on", "latency"), 3, "expected errors>N%"),
            ((path, *whole, "--target", "stock"), 3, "is for --target external"),
        ]
        runs = (asyncio.to_thread(_run, words) for words, _, _ in cases)
        for (words, code, said), done in zip(cases, await asyncio.gather(*runs), strict=True):
            assert (done.returncode, said in done.stdout + done.stderr) == (code, True), (
                words,
                done.stdout + done.stderr,
            )
            assert "Traceback" not in done.stderr
        assert len(await emails(parts.urls[0], await _token(parts))) == 1


async def _token(parts: Deployment) -> str:
    from tests.integration.external_parts import call

    form = {"email": ADMIN, "password": PASSWORD}
    return str((await call("POST", f"{parts.urls[0]}/api/v1/auths/signin", form))[1]["token"])


def _run(words: tuple[Any, ...]) -> subprocess.CompletedProcess[str]:
    return harness("run", *words, timeout=120, **SECRET)


@pytest.mark.skipif(find_nginx() is None, reason="nginx is missing")
async def test_the_stock_app_behind_nginx_is_loaded_without_chats(tmp_path: Path) -> None:
    """One URL, no provider: what needs more is not applicable; its accounts stay, as it says."""
    async with stock_behind_nginx(tmp_path) as url:
        await sign_up(url)
        scenario = tmp_path / "scenario.yaml"
        scenario.write_text(scenario_text(**LIGHT, duration_s="4", enough="{stops: 5}"))
        reports = tmp_path / "reports"
        flags = ("--url", url, "--admin", ADMIN, "--max-rate", "100", "--reports", reports)
        done = await asyncio.to_thread(harness, "run", scenario, *flags, timeout=200, **SECRET)
        assert done.returncode in (0, 1, 2), done.stdout + done.stderr
        assert "will start no chats" in done.stderr
        assert "the others were refused with status 404" in done.stderr
        found = _findings(reports)
        assert not found["stop-ends-task"]["applicable"]
        assert found["canaries-delivered"]["quantities"]["posted"] > 0
        assert found["load-healthy"]["verdict"] == "pass", found["load-healthy"]
        assert found["enough-load"]["verdict"] == "pass", found["enough-load"]
