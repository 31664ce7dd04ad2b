"""What went wrong with a collector: one sentence, with what to do about it.

A mistake in a URL (no TLS where there should be some, the port of the other protocol, a name that the certificate has not)
looks to us like a collector that is away, and "start one" is no help then. So each thing that can be meant has its sentence
here; which it is, the transports tell by the types of exceptions (HTTP) or by words (gRPC gives nothing else). Where those
leave room, the sentence says "perhaps".
"""

from __future__ import annotations

import re
from typing import Final

from clovisor_py.exporters._otlp_reply import remark
from clovisor_py.exporters._otlp_settings import GRPC, HTTP, PORTS, Settings

CERTIFICATES: Final = (
    (re.compile(r"has expired"), "renew the certificate"),
    (re.compile(r"not yet valid"), "check the clocks of both machines"),
    (re.compile(r"mismatch|Hostname Verification"), "export to a name that the collector's certificate has"),
    (re.compile(r"issuer|self.signed|first certificate"), "name the CA that signed the collector's certificate (?ca=FILE)"),
    (
        re.compile(r"ALERT_(CERT|BAD_CERT|UNKNOWN_CA|HANDSHAKE)"),
        "give a client certificate that it knows (?cert=FILE&key=FILE)",
    ),
)
"""What OpenSSL and BoringSSL say of a handshake that failed, and what to do."""
PLAIN: Final = re.compile(r"WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|RECORD_LAYER_FAILURE")
"""What they say where the answer is not TLS."""


def away(settings: Settings, why: str) -> str:
    """Nobody answers there."""
    return f"no collector answers at {settings.place} ({_said(why)}); start one, or export to another host."


def nameless(settings: Settings, why: str) -> str:
    """The host's name has no address."""
    return f"the collector's host {settings.host} is not known ({_said(why)}); check the name, or this machine's DNS."


def late(settings: Settings, why: str) -> str:
    """No answer, and the time is up."""
    return (
        f"no answer came from {settings.place} within {settings.timeout_s:g} s ({_said(why)}); see that collector's log and "
        "the way there, or give it longer (?timeout=SECONDS, or OTEL_EXPORTER_OTLP_TIMEOUT in ms)."
    )


def hung_up(settings: Settings, why: str, *, answered: bool) -> str:
    """It ends the connection without an answer. Whoever has `answered` before is away now; else there may be a mistake."""
    if answered:
        return away(settings, why)
    which = "another" if settings.certificate else "a"
    guesses = [f"{which} client certificate (?cert=FILE&key=FILE)"] if settings.tls else []
    if settings.protocol == HTTP:
        guesses.append(f"gRPC ({_url(settings, protocol=GRPC)})")
    guesses.append(f"{'no ' if settings.tls else ''}TLS ({_url(settings, tls=not settings.tls)})")
    return f"what listens at {settings.place} hangs up ({_said(why)}); perhaps it wants {' or '.join(guesses)}: give that."


def wants_tls(settings: Settings, why: str) -> str:
    """It speaks TLS, and we did not."""
    return f"what listens at {settings.place} wants TLS ({_said(why)}); write {_url(settings, tls=True)}."


def no_tls(settings: Settings, why: str) -> str:
    """A handshake that came to nothing."""
    if PLAIN.search(why):
        return f"what listens at {settings.place} speaks no TLS ({_said(why)}); write {_url(settings, tls=False)}."
    advice = next((do for pattern, do in CERTIFICATES if pattern.search(why)), "check the certificates of both, and its log")
    return f"no TLS with the collector at {settings.place} ({_said(why)}); {advice}."


def no_http(settings: Settings, why: str) -> str:
    """Something else answers."""
    return (
        f"something answers at {settings.place}, but no HTTP ({_said(why)}); give the collector's port (mostly {PORTS[HTTP]})."
    )


def wants_grpc(settings: Settings, why: str) -> str:
    """A gRPC server answers to HTTP/1.1."""
    url = _url(settings, protocol=GRPC)
    return f"what listens at {settings.place} speaks gRPC ({_said(why)}); write {url}, or HTTP's port (mostly {PORTS[HTTP]})."


def no_grpc(settings: Settings, why: str) -> str:
    """Something else answers, mostly HTTP/1.1."""
    url = _url(settings, protocol=HTTP)
    return (
        f"something answers at {settings.place}, but no gRPC ({_said(why)}); "
        f"write {url}, or gRPC's port (mostly {PORTS[GRPC]})."
    )


def no_receiver(settings: Settings, why: str) -> str:
    """It is our protocol, and no OTLP."""
    path = f" and the path (mostly {settings.signal.path})" if settings.protocol == HTTP else ""
    return _refused(settings, why, f"check the port (mostly {PORTS[settings.protocol]}){path}")


def busy(settings: Settings, why: str) -> str:
    """It may take the same later."""
    return f"the collector at {settings.place} takes nothing now ({_said(why)}); see its log."


def refused(settings: Settings, why: str) -> str:
    """It will never take that."""
    return _refused(settings, why, "see its log")


def not_let_in(settings: Settings, why: str) -> str:
    """It wants to know who sends."""
    return (
        f"the collector at {settings.place} does not let us in ({_said(why)}); "
        "put what it asks for into OTEL_EXPORTER_OTLP_HEADERS, or give a client certificate."
    )


def _refused(settings: Settings, why: str, advice: str) -> str:
    return f"the collector at {settings.place} refuses what it is sent ({_said(why)}); {advice}."


def _url(settings: Settings, *, protocol: str = "", tls: bool | None = None) -> str:
    """The same place, spoken to otherwise; without its path, which may be a secret."""
    secure = settings.tls if tls is None else tls
    way = "grpc" if (protocol or settings.protocol) == GRPC else "http"
    return f"{'otlps' if secure else 'otlp'}+{way}://{settings.place}"


def _said(why: str) -> str:
    return remark(why).rstrip(".: ")
