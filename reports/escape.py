r"""Strings from the user's world, made safe to show: paths, arguments, class and operator names.

What cannot be seen could lie (terminal escapes, right-to-left overrides, bytes that are no text),
so it is written out as an escape: ``\x1b``, ``\u202e``, ``\xff``. HTML's own characters are the
template's business.
"""

from __future__ import annotations

import unicodedata

_SURROGATE_BYTES = range(0xDC80, 0xDD00)  # how Python carries bytes that are not UTF-8


def visible(text: str) -> str:
    """Write out every character that is not plainly visible, line breaks and tabs included."""
    if text.isprintable():
        return text
    return "".join(map(_spelled, text))


def block(text: str) -> str:
    """Do the same for text of several lines: line breaks stay, a tab is four spaces."""
    return "\n".join(visible(line.replace("\t", "    ")) for line in text.split("\n"))


def encodable(text: str) -> str:
    """Write out only what UTF-8 cannot hold, for data that other programs read."""
    if text.isascii():
        return text
    return "".join(_spelled(c) if "\ud800" <= c <= "\udfff" else c for c in text)


def _spelled(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    code = ord(character)
    if code in _SURROGATE_BYTES:
        return f"\\x{code - 0xDC00:02x}"
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character)
    if named is not None:
        return named
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
