"""Start: the console script's first lines. Importing takes a tenth of a second, half a second for the agent, and Ctrl-C in it
is to end the command without a word, as it does later, and not with a traceback of whatever was being imported.

So the system's own way of SIGINT holds until the command is known (`main` gives it back to Python then). Where it is ignored
(`nohup`) that stays.
"""

from __future__ import annotations

import signal


def main() -> None:
    """Entry point of the console script."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from clovisor_py.cli.main import main  # noqa: PLC0415 (that is what takes the time)

    main()
