"""The captures beside the checkout; every test here skips where they are not."""

from pathlib import Path

import pytest

CORPORA = Path(__file__).parents[3] / "shared" / "corpora"
PROTOCOLS = ("http1", "http2", "grpc", "postgresql", "redis", "kafka", "dns")
CAPTURES = [path for name in PROTOCOLS for path in sorted((CORPORA / name).glob("*.pcap"))]


def pytest_collection_modifyitems(items):
    if not CORPORA.is_dir():
        skip = pytest.mark.skip(reason="no ../shared/corpora beside this checkout: captures of real traffic and their truth")
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(skip)
