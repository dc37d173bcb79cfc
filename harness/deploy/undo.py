"""Takes back what a run did beyond its own processes, however it ended; standard library only.

The guardian runs this file by path with `python -I -S FILE UNDO`, `harness clean` calls
`take_back`. UNDO holds one JSON object a line, each written before what it names is done:

    {"toxiproxy": API, "proxies": [name, …]}       → our toxics are removed, the proxies enabled
    {"app": URL, "token", "prefix"}                → accounts can be removed by this admin
    {"account": id}                                → this one; then all whose address has the prefix
    {"chain": name, "network": subnet}             → this chain of packet rules is removed

One sentence per thing is printed, none for a chain that is gone. A failure is a sentence too: the
others go on.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ANSWER_S = 6.0  # removing a toxic that held bytes may take 5 s
THREADS = 8
FILTER_S = 10.0
PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
HOLDING = ("bandwidth", "latency")  # toxics that hold bytes
# No connection takes part in it. Never another `rate` than 0 on what holds: Toxiproxy's server dies
# ("slice bounds out of range") when bytes that wait meet the new one (toxics/bandwidth.go, 2.12.0).
NEUTRAL = {"toxicity": 0.0}
OURS = {
    f"{kind}_{stream}"
    for kind in ("bandwidth", "latency", "reset_peer")
    for stream in ("upstream", "downstream")
}


def take_back(path: Path) -> list[str]:
    """Do it all; return one sentence per thing."""
    entries = _entries(path)
    sentences = [_try(_heal, e["toxiproxy"], e["proxies"]) for e in entries if "toxiproxy" in e]
    rules = [_try(remove_chain, e["chain"], e["network"]) for e in entries if "chain" in e]
    known = [e["account"] for e in entries if "account" in e]
    sentences += [_try(_remove, entry, known) for entry in entries if "app" in entry]
    return [*filter(None, rules), *sentences]


def _entries(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines; the last may have been cut by the end of who wrote it."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _try(work: Any, *arguments: Any) -> str:
    try:
        return str(work(*arguments))
    except (OSError, ValueError, http.client.HTTPException, subprocess.SubprocessError) as error:
        return f"{work.__name__.strip('_')}: failed: {type(error).__name__}: {error}"


def _heal(api: str, proxies: list[str]) -> str:
    """Remove our toxics of these proxies and enable them; raise OSError."""
    status, known = _call(api, "GET", "/proxies")
    if status != http.client.OK:
        raise OSError(f"Toxiproxy at {api} answers {status}")
    there = [name for name in proxies if name in known]
    with ThreadPoolExecutor(THREADS) as threads:
        removed = sum(threads.map(lambda name: _clear(api, name, known[name]), there))
    return f"healed {len(there)} proxies of Toxiproxy at {api}, removed {removed} toxics"


def _clear(api: str, name: str, proxy: dict[str, Any]) -> int:
    """Make toxics neutral before they are removed: a removal waits for what they hold."""
    ours = [toxic for toxic in proxy["toxics"] if toxic["name"] in OURS]
    for toxic in ours:
        if toxic["type"] in HOLDING:
            _call(api, "POST", f"/proxies/{name}/toxics/{toxic['name']}", NEUTRAL)
    for toxic in ours:
        _call(api, "DELETE", f"/proxies/{name}/toxics/{toxic['name']}")
    if not proxy["enabled"]:
        _call(api, "POST", f"/proxies/{name}", {"enabled": True})
    return len(ours)


def entrance(chain: str, network: str) -> str:
    """Return the rule that leads the packets inside one network into a chain."""
    return f"INPUT -s {network} -d {network} -j {chain}"


def remove_chain(chain: str, network: str) -> str:
    """Remove a chain of packet rules and its entrance; nothing to say when it is gone.

    Raises OSError when the packet filter refuses.
    """
    if _filter("iptables", "-S", chain).returncode:
        return ""
    lines = ("*filter", f"-D {entrance(chain, network)}", f"-F {chain}", f"-X {chain}", "COMMIT\n")
    done = _filter("iptables-restore", "--noflush", stdin="\n".join(lines))
    if done.returncode:
        raise OSError(f"{chain} stays: {done.stderr.strip()}")
    return f"removed the packet rules {chain}"


def _filter(program: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    words = [shutil.which(program, path=PATH) or program, "--wait", "5", *arguments]
    return subprocess.run(
        words, input=stdin, capture_output=True, text=True, timeout=FILTER_S, check=False
    )


def _remove(app: dict[str, str], known: list[str]) -> str:
    """Remove the run's accounts, then sign the admin's token out; return what became of them."""
    url, token = app["app"], app["token"]
    identities = list(dict.fromkeys([*known, *_listed(url, token, app["prefix"])]))
    with ThreadPoolExecutor(THREADS) as threads:
        statuses = list(threads.map(lambda one: _delete(url, token, one), identities))
    _call(url, "POST", "/api/v1/auths/signout", None, token)
    gone = sum(status in (http.client.OK, http.client.NO_CONTENT) for status in statuses)
    left = [s for s in statuses if s not in (http.client.OK, http.client.NO_CONTENT)]
    said = f"removed {gone} of {len(identities)} accounts at {url}"
    return f"{said}; the others were refused with status {left[0]}" if left else said


def _delete(url: str, token: str, identity: str) -> int:
    return _call(url, "DELETE", f"/api/v1/users/{identity}", None, token)[0]


def _listed(url: str, token: str, prefix: str) -> list[str]:
    """Return the accounts of the run that nobody noted: made when the run died."""
    status, body = _call(url, "GET", "/api/v1/users/", None, token)
    users = body.get("users", ()) if isinstance(body, dict) else body
    if status != http.client.OK or not isinstance(users, list):
        return []
    return [user["id"] for user in users if str(user.get("email", "")).startswith(prefix)]


def _call(
    url: str, method: str, path: str, body: Any = None, token: str | None = None
) -> tuple[int, Any]:
    """Return status and JSON body, empty when it is none; raise OSError, HTTPException."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port or 80, ANSWER_S)
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        data = None if body is None else json.dumps(body)
        connection.request(method, parts.path.rstrip("/") + path, data, headers)
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    try:
        return answer.status, json.loads(content)
    except ValueError:
        return answer.status, {}


if __name__ == "__main__":
    print("\n".join(take_back(Path(sys.argv[1]))), flush=True)
