"""Scripts that once made a parser fail (`tools/fuzz` keeps them), those that it begins with, and what its search has found."""

from pathlib import Path

import pytest

from clovisor_py.protocols._api import Setup
from clovisor_py.protocols._registry import registry
from tests.support.parser_harness import run
from tests.support.scripts import reader_of, restore

FILES = [file for folder in ("regressions", "scripts", "fuzz") for file in sorted((Path(__file__).parent / folder).glob("*/*"))]


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_it_is_survived(file):
    protocol, riders = reader_of(registry()[file.parent.name], registry())
    datagrams, script = restore(file.read_bytes())
    run(protocol, script, Setup(datagrams=datagrams and protocol.recognise_datagram is not None, riders=riders))
