"""What all workers have to agree on: configuration, a rate limit, model lists. Steps of the plan.

Each step changes something on one worker and looks at it on all of them. Only the admin may change
configuration and have model lists made anew, on every target.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

import gevent
import orjson
from geventhttpclient import HTTPClient

from harness.load.accounts import Account
from harness.load.addresses import forwarded_for
from harness.load.context import LoadContext
from harness.load.operations import HTTP_OK, REQUEST_TIMEOUT_S, Answer, Operations
from harness.plan import Step
from harness.targets.base import CONFIG, MODEL_LISTS, SIGN_IN_LIMIT
from harness.vocabulary import default_bounds

CONFIG_PATH = "/api/v1/configs/models"
CONFIG_FIELD = "DEFAULT_MODELS"
VALUE = "harness-"  # the configured text is this and the number of the change
LISTED = "list-"  # the provider's versioned models are list-VERSION-NUMBER
WRONG, LIMITED = 400, 429
MARGIN_S = 0.3  # a look that must see the new value is sent so long after the bound
BEYOND_LIMIT = 2  # a wave tries the limit and so many more on every worker
WAVES_APART_S = 3.0
READS_BESIDE, READS_APART_S = 4, 0.05  # lists read on every worker while one makes them anew
FIRST_ADDRESS = 1 << 20  # beyond those of accounts


class Agreement:
    """Performs steps `config_change`, `sign_in_burst` and `model_refresh`."""

    def __init__(self, context: LoadContext, operations: Operations) -> None:
        self._context = context
        self._do = operations.do
        self._admin = context.accounts.admin
        bounds = default_bounds() | context.scenario.bounds
        self._agreed_s = bounds["config_agrees_s"] + MARGIN_S
        self._fresh_s = bounds["model_list_fresh_s"] + MARGIN_S
        self._tries = int(bounds["sign_in_limit"]) + BEYOND_LIMIT

    def steps(self) -> dict[str, Callable[[Step, float], None]]:
        """Return what performs which step; a step that the target has no routes for does nothing.

        A step takes itself and the run second at which it is due.
        """
        return {
            "config_change": self._if(CONFIG, self._change_config),
            "sign_in_burst": self._if(SIGN_IN_LIMIT, self._burst),
            "model_refresh": self._if(MODEL_LISTS, self._refresh_models),
        }

    def _if(
        self, capability: str, do: Callable[[Step, float], None]
    ) -> Callable[[Step, float], None]:
        return do if capability in self._context.setup.capabilities else lambda _step, _due: None

    # configuration

    def _change_config(self, step: Step, due: float) -> None:
        """Change the value on one worker; when all have to know it, look at all."""
        self._write_config(self._any_worker(f"config-{step.k}"), step.k, due)
        gevent.sleep(self._agreed_s)
        self._everywhere(self.read_config)

    def _write_config(self, worker: int, value: int, due: float) -> Answer:
        form = {CONFIG_FIELD: f"{VALUE}{value}"}
        request = ("POST", CONFIG_PATH, form)
        args = {"value": value, "scheduled": due}
        return self._do("config_write", self._admin, worker, request, args, lambda _: {})

    def read_config(self, worker: int, when: str = "") -> Answer:
        """Read the value on a worker: null when it is not one of ours."""
        args = {"when": when} if when else {}
        request = ("GET", CONFIG_PATH, None)
        return self._do("config_read", self._admin, worker, request, args, _configured)

    # limits

    def _burst(self, step: Step, due: float) -> None:
        """Try to sign in with a wrong password, twice, on all workers at once, beyond the limit."""
        name, address = f"limit-{step.k}", forwarded_for(FIRST_ADDRESS + step.k)
        nobody = Account(name, f"{name}@load.example", "wrong", address)
        for wave in range(2):
            gevent.sleep(max(0.0, due + wave * WAVES_APART_S - self._context.clock.now()))
            self._everywhere(partial(self._try, nobody, wave))

    def _try(self, account: Account, wave: int, worker: int) -> None:
        form = {"email": account.email, "password": account.password}
        request = ("POST", "/api/v1/auths/signin", form)
        args = {"account": account.name, "wave": wave}
        for _ in range(self._tries):
            self._do("sign_in_try", account, worker, request, args, _admitted, (WRONG, LIMITED))

    # model lists

    def _refresh_models(self, step: Step, due: float) -> None:
        """Have the provider list a new version and one worker ask for it; read all meanwhile.

        Later the worker asks once more, for the same: whoever skips that has to be sure.
        """
        version = step.k + 1
        self._offer(version)
        readers = [gevent.spawn(self._read_beside, worker) for worker in self._workers]
        worker = self._any_worker(f"models-{step.k}")
        self._refresh(worker, version, scheduled=due)
        gevent.joinall(readers, raise_error=True)
        gevent.sleep(self._fresh_s)
        self._everywhere(self.read_models)
        self._refresh(worker, version)
        self._everywhere(self.read_models)

    def _refresh(self, worker: int, version: int, **args: float) -> None:
        request = ("GET", "/api/models?refresh=true", None)
        args = {"version": version, **args}
        self._do("models_refresh", self._admin, worker, request, args, _listed)

    def _offer(self, version: int) -> None:
        """Tell the provider; it is the harness's own, so an error voids the load's evidence."""
        url = self._context.setup.provider
        with closing(HTTPClient.from_url(url, network_timeout=REQUEST_TIMEOUT_S)) as client:
            answer = client.post("/harness/models", orjson.dumps({"version": version}))
            if answer.status_code != HTTP_OK:
                raise RuntimeError(f"the provider refused version {version}: {answer.status_code}")

    def _read_beside(self, worker: int) -> None:
        for _ in range(READS_BESIDE):
            self.read_models(worker)
            gevent.sleep(READS_APART_S)

    def read_models(self, worker: int, when: str = "") -> Answer:
        """Read the model list of a worker."""
        args = {"when": when} if when else {}
        request = ("GET", "/api/models", None)
        return self._do("models_read", self._admin, worker, request, args, _listed)

    # workers

    @property
    def _workers(self) -> range:
        return range(self._context.workers)

    def _any_worker(self, name: str) -> int:
        return self._context.choices(name).below(self._context.workers)

    def _everywhere(self, ask: Callable[[int], object]) -> None:
        gevent.joinall([gevent.spawn(ask, worker) for worker in self._workers], raise_error=True)


def _configured(body: dict[str, Any]) -> dict[str, Any]:
    text = str(body[CONFIG_FIELD] or "")
    number = text.removeprefix(VALUE)
    return {"value": int(number) if text.startswith(VALUE) and number.isdigit() else None}


def _admitted(body: dict[str, Any]) -> dict[str, Any]:
    return {"admitted": body["status"] != LIMITED}


def _listed(body: dict[str, Any]) -> dict[str, Any]:
    """Return how many models of which version are listed, and how many there are in all."""
    names = [str(model["id"]) for model in body["data"]]
    versions = Counter(name.split("-")[1] for name in names if name.startswith(LISTED))
    return {"versions": dict(versions), "models": len(names)}
