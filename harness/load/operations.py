"""The operations of the load: one HTTP request each, recorded as invoke and ok, fail or info."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from gevent.lock import BoundedSemaphore
from locust.contrib.fasthttp import FastHttpSession
from locust.env import Environment

from harness.history.errors import classify
from harness.history.records import INFO, OK
from harness.load.accounts import SESSION_COOKIE, Account
from harness.load.context import LoadContext
from harness.load.streams import Stream
from harness.targets.base import TRACES
from harness.traces.identity import TraceIdentity

CONNECT_TIMEOUT_S = 2.0
REQUEST_TIMEOUT_S = 10.0
QUEUED_S = 0.001  # an operation that waited longer for a connection says when it was sent
HTTP_OK, HTTP_UNAUTHORIZED = 200, 401
SESSION_KEY = "harness"
SESSION_OWNER = "harness-owner"
_JSON = {"Content-Type": "application/json", "Accept": "application/json"}


class BadAnswer(Exception):
    """The answer is not what the route promises."""


@dataclass
class Answer:
    """What came back: outcome `ok`, `fail` or `info`, the body, or the error's code."""

    outcome: str
    status: int = 0
    body: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    text: str = ""
    served: int | None = None  # the worker that the balancer chose

    @property
    def ok(self) -> bool:
        """Tell whether the operation happened."""
        return self.outcome == OK


class Operations:
    """Every operation against every worker, over Locust's FastHttp sessions."""

    def __init__(self, context: LoadContext, environment: Environment) -> None:
        self._context = context
        self._writer = context.writer
        self._entry = entry = context.setup.entry
        most = context.scenario.load.connections
        numbers = range(len(entry.urls))
        self._sessions = [_session(entry.url(n), environment, most) for n in numbers]
        telemetry = context.scenario.telemetry
        traced = telemetry is not None and TRACES in context.setup.capabilities
        self._share = telemetry.sample if telemetry is not None and traced else None
        self._free = [BoundedSemaphore(most) for _ in numbers]

    def me(self, account: Account, worker: int | None, scheduled: float | None = None) -> Answer:
        """Ask a worker, or whom the balancer chooses (None), who the token's owner is."""
        args = {} if scheduled is None else {"scheduled": scheduled}
        return self._alive("me", account, worker, args)

    def token_probe(self, account: Account, worker: int, when: str) -> Answer:
        """Ask whether a worker still honours the token; `alive` in the body."""
        return self._alive("token_probe", account, worker, {"when": when})

    def sign_out(self, account: Account, worker: int, scheduled: float) -> Answer:
        """Sign the token out."""
        return self.do(
            "sign_out",
            account,
            worker,
            ("POST", "/api/v1/auths/signout", None),
            {"account": account.name, "token": account.token_name, "scheduled": scheduled},
            lambda _: {},
        )

    def session_write(self, account: Account, worker: int, value: int) -> Answer:
        """Write the user's counter into the server-side session."""
        return self.do(
            "session_write",
            account,
            worker,
            ("POST", "/api/v1/session/data", {SESSION_KEY: value, SESSION_OWNER: account.name}),
            {"session": account.name, "value": value},
            lambda _: {},
        )

    def session_read(self, account: Account, worker: int, when: str = "") -> Answer:
        """Read counter and owner's name back; null where the session does not hold them."""
        args = {"session": account.name, **({"when": when} if when else {})}
        return self.do(
            "session_read",
            account,
            worker,
            ("GET", "/api/v1/session/data", None),
            args,
            lambda body: {
                "value": body["data"].get(SESSION_KEY),
                "owner": body["data"].get(SESSION_OWNER),
            },
        )

    def chat_start(
        self, account: Account, worker: int, stream: Stream, socket: tuple[str, str], **args: Any
    ) -> Answer:
        """Start a chat; its tokens go to the user's socket. `socket` is (name, session id)."""
        self._context.streams.add(stream)
        fields = _chat_fields(stream, socket[1], self._context.accounts.model)
        answer = self.do(
            "chat_start",
            account,
            worker,
            ("POST", "/api/chat/completions", fields),
            {
                "stream": stream.name,
                "user": stream.user,
                "socket": socket[0],
                "tokens": stream.tokens,
                **args,
            },
            _chat_result,
        )
        if answer.ok:
            now = self._context.clock.now()
            body = answer.body
            self._context.streams.acknowledge(stream, body["chat_id"], list(body["task_ids"]), now)
        return answer

    def list_tasks(self, account: Account, worker: int, stream: Stream, when: str = "") -> Answer:
        """List the tasks of the stream's chat."""
        args = {
            "stream": stream.name,
            "chat_id": stream.chat_id,
            **({"when": when} if when else {}),
        }
        return self.do(
            "list_tasks",
            account,
            worker,
            ("GET", f"/api/tasks/chat/{stream.chat_id}", None),
            args,
            lambda body: {"tasks": list(body["task_ids"])},
        )

    def list_all_tasks(self, admin: Account, worker: int, scheduled: float) -> Answer:
        """List every running task, as only the admin may."""
        return self.do(
            "list_all_tasks",
            admin,
            worker,
            ("GET", "/api/tasks", None),
            {"scheduled": scheduled},
            lambda body: {"tasks": list(body["tasks"])},
        )

    def stop(self, account: Account, worker: int, stream: Stream, by: str, **args: Any) -> Answer:
        """Stop the stream's task: `by` its id, as the admin may on every target, or its chat."""
        if by == "task":
            account, path = self._context.accounts.admin, f"/api/tasks/stop/{stream.tasks[0]}"
        else:
            path = f"/api/tasks/chat/{stream.chat_id}/stop"
        answer = self.do(
            "stop",
            account,
            worker,
            ("POST", path, None),
            {"stream": stream.name, "by": by, **args},
            _stop_result,
        )
        if answer.ok:
            stream.stop_acknowledged = True
        return answer

    def _alive(self, op: str, account: Account, worker: int | None, args: dict[str, Any]) -> Answer:
        answer = self.do(
            op,
            account,
            worker,
            ("GET", "/api/v1/auths/", None),
            {"token": account.token_name, **args},
            lambda body: {"alive": "id" in body},
            also_ok=(HTTP_UNAUTHORIZED,),
        )
        answer.body = {"alive": "id" in answer.body} if answer.ok else {}
        return answer

    def do(
        self,
        op: str,
        account: Account,
        worker: int | None,
        request: tuple[str, str, dict[str, Any] | None],
        args: dict[str, Any],
        result: Callable[[dict[str, Any]], dict[str, Any]],
        also_ok: tuple[int, ...] = (),
    ) -> Answer:
        """Send one request and record it; `also_ok` are further statuses that are true answers.

        `result` makes what is recorded of the body, which is `{"status": …}` for those. One that
        had to wait for a free connection is recorded with the time when it was `sent`.
        """
        self._context.pace()
        trace = None if self._share is None else TraceIdentity.new(self._share)
        traced = {"trace": trace.trace} if trace and trace.sampled else {}
        identity = self._writer.invoke(op, worker=worker, **args, **traced)
        began = self._context.clock.now()
        with self._free[worker or 0]:
            sent = self._context.clock.now()
            answer = self._request(op, account, worker, request, also_ok, trace)
        fields: dict[str, Any] = {"sent": sent} if sent - began > QUEUED_S else {}
        if answer.ok:
            try:
                fields |= result(answer.body)
            except (KeyError, TypeError, AttributeError) as error:
                answer = _failed(BadAnswer(f"{type(error).__name__} {error} in {answer.body!r}"))
        if worker is None and answer.served is not None:
            fields["worker"] = answer.served
        self._complete(identity, op, answer, fields)
        return answer

    def _complete(self, identity: str, op: str, answer: Answer, fields: dict[str, Any]) -> None:
        """Record and count the outcome; of what failed the error instead of the result."""
        self._context.counters.ops += 1
        if not answer.ok:
            self._context.counters.errors += 1
            kept = {"sent": fields["sent"]} if "sent" in fields else {}
            fields = kept | {"error": answer.error, "text": answer.text[:200]}
        self._writer.complete(answer.outcome, identity, op, **fields)

    def _request(
        self,
        op: str,
        account: Account,
        worker: int | None,
        request: tuple[str, str, dict[str, Any] | None],
        also_ok: tuple[int, ...],
        trace: TraceIdentity | None,
    ) -> Answer:
        method, path, fields = request
        headers = account.headers() | self._entry.pin(worker)
        if trace is not None:
            headers["traceparent"] = trace.traceparent
        data = None
        if fields is not None:
            headers |= _JSON
            data = orjson.dumps(fields)
        with self._sessions[worker or 0].request(
            method,
            path,
            name=op,
            data=data,  # type: ignore[arg-type]  # bytes pass through
            headers=headers,
            catch_response=True,
        ) as response:
            answer = _answer(response, also_ok)
            if answer.ok:
                response.success()
            else:
                response.failure(answer.error)
        _keep_cookie(account, response.headers)
        answer.served = self._entry.served(response.headers)
        if answer.ok and (wrong := self._entry.misplaced(worker, response.headers)):
            self._context.fault(f"{op}: {wrong}")
        return answer


def _session(url: str, environment: Environment, connections: int) -> FastHttpSession:
    """Return a session without cookies of its own: many users share its connections."""
    session = FastHttpSession(
        base_url=url,
        request_event=environment.events.request,
        user=None,
        network_timeout=REQUEST_TIMEOUT_S,
        connection_timeout=CONNECT_TIMEOUT_S,
        max_redirects=0,
        max_retries=0,
        concurrency=connections,
    )
    session.client.cookiejar = None
    return session


def _answer(response: Any, also_ok: tuple[int, ...]) -> Answer:
    status = response.status_code
    if not status:
        return _failed(response.error)
    body = _json(response.content)
    if status in (HTTP_OK, *also_ok):
        if body is None:
            return _failed(BadAnswer(f"{status} without a JSON object"))
        return Answer(OK, status, body if status == HTTP_OK else {"status": status})
    outcome, code = classify(status, detail=body is not None and "detail" in body)
    return Answer(outcome, status, error=code, text=str(body))


def _failed(error: BaseException) -> Answer:
    outcome, code = classify(error)
    return Answer(outcome or INFO, error=code, text=f"{type(error).__name__}: {error}")


def _json(content: bytes | None) -> dict[str, Any] | None:
    try:
        body = orjson.loads(content or b"")
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None


def _keep_cookie(account: Account, headers: Any) -> None:
    """Keep the session cookie that a worker set, as a browser would for all workers' one name."""
    if headers is None:
        return
    for line in headers.get_all("set-cookie") or ():
        pair, _, attributes = line.partition(";")
        if pair.startswith(f"{SESSION_COOKIE}="):
            gone = "max-age=0" in attributes.lower() or pair.endswith(("=", '=""'))
            account.cookie = "" if gone else pair


def _chat_result(body: dict[str, Any]) -> dict[str, Any]:
    if not body["task_ids"]:
        raise KeyError("no task")
    return {"chat_id": body["chat_id"], "tasks": list(body["task_ids"])}


def _stop_result(body: dict[str, Any]) -> dict[str, Any]:
    """Return the stop's state; targets without states say only true or false."""
    return {"state": body.get("state") or ("requested" if body["status"] else "not_found")}


def _chat_fields(stream: Stream, sid: str, model: str) -> dict[str, Any]:
    question = f"question-{stream.message_id}"
    content = f"Please count. {stream.marker}"
    return {
        "model": model,
        "stream": True,
        "messages": [{"role": "user", "content": content}],
        "session_id": sid,
        "id": stream.message_id,
        "parent_id": None,
        "user_message": {
            "id": question,
            "parentId": None,
            "childrenIds": [stream.message_id],
            "role": "user",
            "content": content,
            "timestamp": 0,
            "models": [model],
        },
        "params": {},
        "features": {},
        "background_tasks": {},
    }
