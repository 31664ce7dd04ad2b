"""`--plugin FILE|DIR`, for every command that reads protocols."""

from __future__ import annotations

from pathlib import Path

import click

plugin_option = click.option(
    "--plugin",
    "plugins",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE|DIR",
    is_eager=True,  # so that --hint knows that there may be further names
    help="Read a protocol from that file, too, or from each file of that folder.",
)
