"""The deployer of an external deployment: connects the run's parts to what runs already."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from harness.deploy.model import Deployment, Node, Worker
from harness.deploy.provider import start_provider
from harness.deployer import Deployer
from harness.errors import UserError
from harness.history.writer import HistoryWriter
from harness.load.prepare import find_model
from harness.network.links import Links
from harness.plan import Plan
from harness.scenario import Scenario
from harness.targets.external import ExternalTarget
from harness.targets.external.accounts import fresh_prefix, make_accounts
from harness.targets.external.announce import PROBES_PER_S
from harness.targets.external.ask import nodes_of
from harness.targets.external.description import External
from harness.targets.external.proxies import links_of

if TYPE_CHECKING:
    from harness.deploy.spawner import Guardian

MODELS_S = 10.0
PROVIDER_PORT = 80


class Attached(Deployer):
    """Starts nothing but the provider; has whatever it changes taken back by the guardian."""

    @property
    def told(self) -> External:
        """Return the deployment's description."""
        target = self.subject.target
        assert isinstance(target, ExternalTarget)
        return target.told

    async def deploy(self, guardian: Guardian, subnet: str) -> Deployment:
        """Return the deployment as it was described; its links carry nothing yet."""
        deployment = self.subject.deployment(self.scenario.topology, subnet)
        _fill(deployment, self.told)
        deployment.max_rate = _share(self.told, self.scenario)
        self._promise(guardian)
        if self.told.provider:
            parts = urlsplit(self.told.provider)
            at = (str(parts.hostname), parts.port or PROVIDER_PORT)
            await start_provider(guardian, deployment, self.run, self.clock, at)
        await self._attach_links(deployment)
        return deployment

    async def prepare(self, deployment: Deployment, plan: Plan) -> None:
        """Make the accounts, or sign the given ones in; find the model that answers."""
        found = self.subject.found
        assert found is not None, "make_subject asked"
        writer = HistoryWriter(self.run.history, "prepare", self.clock)
        prefix = fresh_prefix() if found.admin and not self.told.accounts else ""
        if prefix:
            url = self.told.urls[0]
            self._will_undo(app=url, token=found.token, prefix=prefix)
        try:
            accounts = await make_accounts(
                deployment, plan, writer, self.clock, self.told, found, prefix, self._made
            )
        finally:
            writer.close()
        accounts.model = await self._model(deployment, found.token)
        accounts.write(self.run.accounts)

    def ended(self, guardian: Guardian) -> None:
        """Say what was taken back."""
        for sentence in (guardian.stopped or {}).get("undone", ()):
            self.say(sentence)

    def _promise(self, guardian: Guardian) -> None:
        """Tell the guardian what to take back, before there is anything."""
        self.run.undo.touch(mode=0o600)
        guardian.take_back(self.run.undo)

    def _will_undo(self, **entry: Any) -> None:
        with self.run.undo.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def _made(self, identity: str) -> None:
        self._will_undo(account=identity)

    async def _attach_links(self, deployment: Deployment) -> None:
        if (toxiproxy := self.told.toxiproxy) is None or not self.scenario.faults:
            return
        deployment.toxiproxy_url = toxiproxy.url
        deployment.links = await asyncio.to_thread(links_of, toxiproxy, deployment, self.told)
        names = [link.name for link in deployment.links]
        self._will_undo(toxiproxy=toxiproxy.url, proxies=names)
        self.links = Links(deployment)

    async def _model(self, deployment: Deployment, token: str) -> str:
        """Return the model that chats ask for; empty: there are none."""
        if not self.told.provider:
            return self.told.model
        timeout = aiohttp.ClientTimeout(total=MODELS_S)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            model = await find_model(http, deployment.provider_url)
            url = f"{self.told.urls[0]}/api/models?refresh=true"
            async with http.get(url, headers={"Authorization": f"Bearer {token}"}) as answer:
                offered = _models(await answer.read()) if answer.status != 404 else None
        if offered is not None and model not in offered:
            raise UserError(
                f"{url}: expected the harness's model `{model}`, got {sorted(offered)}. Point the "
                f"deployment's OPENAI_API_BASE_URL at {self.told.provider}, or leave --provider out"
            )
        return model


def _fill(deployment: Deployment, told: External) -> None:
    nodes: list[Node] = nodes_of(told)
    deployment.nodes = [node for node in nodes if node.kind == "redis"]
    deployment.sentinels = [node for node in nodes if node.kind == "sentinel"]
    deployment.service = told.service
    deployment.vetted = True
    for number, url in enumerate(told.urls):
        parts = urlsplit(url)
        host, port = str(parts.hostname), parts.port or 80
        deployment.workers.append(Worker(number, host, port, f"worker-{number}", base=url))


def _share(told: External, scenario: Scenario) -> float:
    """Return what --max-rate leaves to the load processes: probes have a rate of their own."""
    each = PROBES_PER_S + scenario.focus.canaries_per_s
    return max(1.0, told.max_rate - each * scenario.workers) if told.max_rate else 0.0


def _models(data: bytes) -> set[str]:
    try:
        return {str(entry["id"]) for entry in orjson.loads(data).get("data", ())}
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
        return set()
