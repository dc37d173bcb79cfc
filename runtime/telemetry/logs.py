"""What logs look like: levels per source, text or JSON, and nothing secret or personal in them."""

from __future__ import annotations

import logging
import re
import time
import traceback
from collections.abc import Mapping
from copy import copy

import orjson

from runtime.telemetry import spans
from runtime.telemetry.outlet import Outlet

TEXT_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
HIDDEN = "[hidden]"
SECRETS = re.compile(
    r"(?P<jwt>\beyJ[\w-]{5,}\.[\w-]+\.[\w-]*)"
    r"|(?P<scheme>\b(?:Bearer|Basic)\s+)[\w.~+/=-]{8,}"
    r"|(?P<url>://)[^\s/@:]*:[^\s/@]+(?=@)"
    r"|(?P<argon>\$argon2\w*\$[^\s'\"]+)"
    r"|(?P<named>(?:password|passwd|secret|token|api[_-]?key)['\"]?\s*[=:]\s*['\"]?)[^\s'\",}&]{4,}"
    r"|(?P<mail>\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b)",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """Return the text without tokens, passwords, password hashes and e-mail addresses."""
    return SECRETS.sub(_hidden, text)


def _hidden(match: re.Match[str]) -> str:
    kept = match["scheme"] or match["url"] or match["named"] or ""
    return kept + HIDDEN


class TextFormatter(logging.Formatter):
    """One line for a person, its trace's id at the end when there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the exception's lines."""
        text = redact(super().format(record))
        ids = spans.ids()
        return f"{text} trace_id={ids[0]}" if ids else text


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object: timestamp (ISO, UTC), level, logger, message, error, ids of spans."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "timestamp": f"{at}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        if error := _error_text(record):
            line["error"] = redact(error)
        if ids := spans.ids():
            line["trace_id"], line["span_id"] = ids
        return orjson.dumps(line).decode()


def _error_text(record: logging.LogRecord) -> str:
    if not record.exc_info or record.exc_info[1] is None:
        return ""
    return "".join(traceback.format_exception(record.exc_info[1]))


def redacted(record: logging.LogRecord) -> logging.LogRecord:
    """Return a copy for another exporter, without secrets."""
    clean = copy(record)
    clean.msg, clean.args = redact(record.getMessage()), ()
    if error := _error_text(record):
        clean.msg += "\n" + redact(error)
    clean.exc_info = clean.exc_text = None
    return clean


class Seldom(logging.Filter):
    """Lets one record per line of code and minute pass, of loggers below `name`.

    An exporter whose collector is away complains at every attempt.
    """

    def __init__(self, name: str, period_s: float = 60.0) -> None:
        super().__init__(name)
        self._period = period_s
        self._last: dict[tuple[str, int], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether the record passes."""
        if not super().filter(record):
            return True
        now = time.monotonic()
        key = (record.name, record.lineno)
        if now - self._last.get(key, -self._period) < self._period:
            return False
        self._last[key] = now
        return True


def configure(level: str, sources: Mapping[str, str], log_format: str) -> None:
    """Set up the root logger and the levels of single sources; replaces what was there."""
    handler = Outlet()
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter(TEXT_FORMAT))
    handler.addFilter(Seldom("opentelemetry"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name, own in sources.items():
        logging.getLogger(name).setLevel(own)
