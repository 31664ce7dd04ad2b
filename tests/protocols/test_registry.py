"""The registry: a file is a protocol, and no two answer to one name."""

from __future__ import annotations

import pkgutil
from collections import Counter
from urllib.parse import urlsplit

import pytest

from clovisor_py import protocols
from clovisor_py.errors import UsageError
from clovisor_py.protocols._api import Evidence, Protocol, Setup
from clovisor_py.protocols._registry import by_name, registry

FILES = [module.name for module in pkgutil.iter_modules(protocols.__path__) if not module.name.startswith("_")]


def test_every_file_is_a_protocol() -> None:
    assert len(registry()) == len(FILES)
    assert all(isinstance(protocol, Protocol) for protocol in registry().values())
    with pytest.raises(TypeError):
        registry()["x"] = by_name("http")  # type: ignore[index]


def test_no_two_protocols_answer_to_one_name() -> None:
    names = Counter(name for protocol in registry().values() for name in {protocol.name, *protocol.hints})
    assert [name for name, count in names.items() if count > 1 or name != name.lower()] == []


@pytest.mark.parametrize("protocol", registry().values(), ids=registry().keys())
def test_what_a_protocol_says_of_itself(protocol: Protocol) -> None:
    assert protocol.title
    assert urlsplit(protocol.specification).scheme == "https"
    assert all(0 < port < 65536 for port in protocol.ports)
    assert protocol.recognise(b"") in (Evidence.MORE, Evidence.NO)
    if protocol.over:
        assert protocol.rider is not None
        assert protocol.over in registry()
        assert protocol.rider(Setup()) is not protocol.rider(Setup())
    else:
        assert protocol.parser(Setup()) is not protocol.parser(Setup())


def test_by_name() -> None:
    assert by_name(" HTTP/1.1 ") is by_name("http") is registry()["http"]
    with pytest.raises(UsageError, match=r"no protocol named 'gopher'.*http"):
        by_name("gopher")
