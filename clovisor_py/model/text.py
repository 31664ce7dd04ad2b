"""Text that others wrote, made fit for a terminal: nothing in it that a terminal would obey.

What comes from the wire, from a pod's interfaces or from a process's name is hostile: an escape sequence must not colour,
move or type anything on the operator's screen, a right-to-left override must not turn a line around.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` with everything that is not a visible character written as an escape: `\\x1b`, `\\u202e`."""
    return text if text.isprintable() else "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    code = ord(char)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
