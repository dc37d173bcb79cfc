"""TLS towards Redis: options of the URL, checked at start, and one context per set of them."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

REQUIREMENTS = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}
FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
OPTIONS = {  # query option of the URL, as redis-py names it → our field
    "ssl_ca_certs": "ca",
    "ssl_ca_path": "ca_path",
    "ssl_certfile": "certificate",
    "ssl_keyfile": "key",
    "ssl_cert_reqs": "requirement",
    "ssl_check_hostname": "check_hostname",
}


@dataclass(frozen=True)
class Tls:
    """How a server is verified, and who we are to it. Paths are of PEM files."""

    ca: str | None = None  # the system's authorities when None
    ca_path: str | None = None
    certificate: str | None = None
    key: str | None = None
    requirement: str = "required"
    check_hostname: bool = True

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> Tls:
        """Return the options of a URL's query; raise ValueError for a wrong one."""
        given: dict[str, str | bool] = {
            OPTIONS[name]: query[name] for name in OPTIONS.keys() & query
        }
        requirement = str(given.get("requirement", "required")).lower().removeprefix("cert_")
        if requirement not in REQUIREMENTS:
            raise ValueError(f"ssl_cert_reqs={requirement}: write required, optional or none")
        if "check_hostname" in given:
            given["check_hostname"] = _flag(str(given["check_hostname"]))
        tls = cls(**{**given, "requirement": requirement})  # type: ignore[arg-type]  # names above
        tls._check_files()
        return tls

    def _check_files(self) -> None:
        for name, path in (("ssl_ca_certs", self.ca), ("ssl_certfile", self.certificate),
                           ("ssl_keyfile", self.key)):  # fmt: skip
            if path and not Path(path).is_file():
                raise ValueError(f"{name}={path}: no such file")
        if self.key and not self.certificate:
            raise ValueError("ssl_keyfile is given without ssl_certfile")
        try:
            self.context()
        except (ssl.SSLError, OSError) as error:
            raise ValueError(f"the TLS files cannot be used: {error}") from None

    def options(self) -> dict[str, object]:
        """Return redis-py's own options, for the stock manager."""
        given = {name: getattr(self, field) for name, field in OPTIONS.items()}
        return {name: value for name, value in given.items() if value is not None}

    @lru_cache(maxsize=32)  # noqa: B019 - frozen, few, live as long as the process
    def context(self) -> ssl.SSLContext:
        """Return the context; made once, because reading the authorities takes milliseconds."""
        context = ssl.create_default_context(cafile=self.ca, capath=self.ca_path)
        context.check_hostname = self.check_hostname and self.requirement != "none"
        context.verify_mode = REQUIREMENTS[self.requirement]
        if self.certificate:
            context.load_cert_chain(self.certificate, self.key)
        return context


def _flag(text: str) -> bool:
    if text.lower() not in FLAGS:
        raise ValueError(f"ssl_check_hostname={text}: write true or false")
    return FLAGS[text.lower()]
