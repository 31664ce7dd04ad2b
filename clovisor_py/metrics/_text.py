"""Text: families as Prometheus' text format 0.0.4 or OpenMetrics 1.0.0, in a fraction of the time that prometheus_client takes.

It escapes every label of every sample anew, and the 22 series of a histogram's row share theirs. The agent's own engine waits
meanwhile (one interpreter lock), so what was spent there was lost to tracing. Names must need no escape; samples' own times
are not written.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client.core import Exemplar, Metric

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
ACCEPTED: Final = {"application/openmetrics-text": OPENMETRICS, "text/plain": TEXT}
BREATH_SAMPLES: Final = 400
"""Written at a stretch, in a millisecond or two."""
BREATH_S: Final = 0.0001
"""Slept then: whoever waits for the interpreter's lock has it sooner than after the 5 ms for which it is held otherwise."""
NUMBERS: Final = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}
"""Those that Python writes otherwise."""


def wanted(accept: str) -> str:
    """The content type for an Accept header: the first of the two formats that is named there, else text."""
    named = (part.partition(";")[0].strip().lower() for part in accept.split(","))
    return next((ACCEPTED[name] for name in named if name in ACCEPTED), TEXT)


def page(metrics: Iterable[Metric], content_type: str) -> bytes:
    """All of them, in the format of TEXT or OPENMETRICS."""
    new = content_type == OPENMETRICS
    lines: list[str] = []
    for metric in metrics:
        lines += _head(metric, new)
        for number, line in enumerate(_samples(metric, new), 1):
            lines.append(line)
            if not number % BREATH_SAMPLES:
                time.sleep(BREATH_S)
    return "".join([*lines, "# EOF\n"] if new else lines).encode()


def _head(metric: Metric, new: bool) -> tuple[str, str]:
    name = metric.name if new or metric.type != "counter" else f"{metric.name}_total"
    what = _escaped(metric.documentation) if new else metric.documentation.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {what}\n", f"# TYPE {name} {metric.type}\n"


def _samples(metric: Metric, new: bool) -> Iterator[str]:
    known: dict[tuple[tuple[str, str], ...], str] = {}
    for name, labels, value, _, exemplar, *_ in metric.samples:
        shared = tuple(labels.items())
        last = ""
        if shared and shared[-1][0] == "le":
            last = f'{"," if len(shared) > 1 else ""}le="{shared[-1][1]}"'
            shared = shared[:-1]
        said = known.get(shared)
        if said is None:
            said = known[shared] = ",".join(f'{key}="{_escaped(text)}"' for key, text in shared)
        around = f"{{{said}{last}}}" if said or last else ""
        beside = _exemplar(exemplar) if new and exemplar is not None else ""
        yield f"{name}{around} {_number(value)}{beside}\n"


def _exemplar(exemplar: Exemplar) -> str:
    labels = ",".join(f'{key}="{_escaped(text)}"' for key, text in exemplar.labels.items())
    return f" # {{{labels}}} {_number(exemplar.value)} {exemplar.timestamp or ''}".rstrip()


def _number(value: float) -> str:
    text = repr(float(value))
    return NUMBERS.get(text, text)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
