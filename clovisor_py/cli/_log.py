"""The log of a command that runs for weeks: lines for people on a terminal, else JSON, an object a line."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Final

from clovisor_py.model.text import printable

TEXT: Final = "text"
JSON: Final = "json"


class JsonLines(logging.Formatter):
    """`time` (RFC 3339, UTC), `level`, `logger`, `message`, and `error` with a traceback where there is one. ASCII only."""

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": printable(record.getMessage()),
        }
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return json.dumps(fields)


class Lines(logging.Formatter):
    """`12:30:01 warning  message`: nothing in it commands the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        begin = f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {record.levelname.lower():<8}"
        trace = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return "\n".join(map(printable, f"{begin} {record.getMessage()}{trace}".split("\n")))


def set_up(level: str, form: str | None) -> None:
    """Log to standard error from here on; `form` None: as it fits what standard error is."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines() if (form or (TEXT if sys.stderr.isatty() else JSON)) == TEXT else JsonLines())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for chatty in ("urllib3", "kubernetes"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
