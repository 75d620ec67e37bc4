"""The log format of all processes: a JSON object per line, so that an id finds all lines about it.

Keys: `time`, `level`, `process`, `logger`, `event`, and whatever the caller passes as `extra`
(by convention `prediction`, `attempt`, `model`).
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from datetime import UTC, datetime
from typing import Any

_encode = json.JSONEncoder(default=str, ensure_ascii=False, check_circular=False).encode
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


_QUOTES = re.compile(r"^(DETAIL|CONTEXT|LINE \d+|QUERY|\[SQL|\[parameters): ?.*\n?", re.MULTILINE)
"""Lines of a database's error that quote rows and statements: users' data must not be logged."""


class JsonFormatter(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "event": record.getMessage(),
        }
        line.update({k: v for k, v in vars(record).items() if k not in _STANDARD})
        if record.exc_info:
            line["exception"] = _QUOTES.sub("", self.formatException(record.exc_info))
        return _encode(line)


def configure(
    process: str, level: str = "INFO", *, own: str | None = None, descriptor: int | None = None
) -> None:
    """Send every logger of this process to standard error. `process` is gateway, runner, …

    Args:
        own: logger that keeps its handler if other code changes the root logger.
        descriptor: file descriptor to write to instead of standard error.
    """
    # Do not collect values that our format does not use (logging HOWTO, "Optimization").
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    stream = sys.stderr
    if descriptor is not None:
        stream = os.fdopen(descriptor, "w", encoding="utf-8", errors="replace", closefd=False)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(process))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    if own is not None:
        logging.getLogger(own).propagate = False
        logging.getLogger(own).setLevel(level.upper())
        logging.getLogger(own).addHandler(handler)
