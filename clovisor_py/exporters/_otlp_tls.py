"""The certificates of an OTLP connection: the CA that signs the collector's, and our own for mutual TLS.

They are read anew with each connection: in a cluster they are renewed while we run. Both transports look at them here first, so
that a file that is none is a sentence at the start, not a handshake that fails later for a reason that nobody says.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from clovisor_py.errors import UsageError
from clovisor_py.exporters._otlp_settings import Settings


def context(settings: Settings) -> ssl.SSLContext:
    """Checks the collector's name and certificate. Raises UsageError where a file is not what it should be."""
    made = ssl.create_default_context()
    if settings.ca:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # this CA alone: whoever names one does not mean the others
        try:
            made.load_verify_locations(cafile=settings.ca)
        except OSError as error:
            raise UsageError(f"'{settings.ca}' is no CA to trust ({_why(error)}); give a file of PEM certificates.") from error
    if settings.certificate:
        try:
            made.load_cert_chain(settings.certificate, settings.key, password="")  # never ask on a terminal
        except (OSError, ValueError) as error:
            files = f"'{settings.certificate}' and '{settings.key}'"
            raise UsageError(
                f"{files} are no client certificate and its key ({_why(error)}); give PEM files without a passphrase."
            ) from error
    return made


def pem(settings: Settings) -> tuple[bytes | None, bytes | None, bytes | None]:
    """CA, key and certificate as gRPC wants them; None where there is none. Raises UsageError, as `context` does.

    Where no CA is named, it is the system's bundle, as for HTTP; gRPC's own where the system has none.
    """
    context(settings)
    files = settings.ca or ssl.get_default_verify_paths().cafile, settings.key, settings.certificate
    try:
        ca, key, certificate = (Path(file).read_bytes() if file else None for file in files)
    except OSError as error:
        raise UsageError(f"cannot read the certificates of {settings.place} ({_why(error)}); check the files.") from error
    return ca, key, certificate


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
