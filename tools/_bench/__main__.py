"""The command line of `tools/bench`."""

from __future__ import annotations

import click

from tools._bench import kernel, machine


@click.group(invoke_without_command=True)
def bench() -> None:
    pass


@bench.command(name="kernel")
@click.option("--quick", is_flag=True)
def kernel_(quick: bool) -> None:
    machine.describe()
    kernel.main(5 if quick else 15)


bench()
