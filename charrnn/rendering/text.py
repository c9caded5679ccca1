"""Characters and numbers as they may be shown."""

from __future__ import annotations

from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"


def visible(text: str) -> str:
    """Return text whose control characters are pictures, so that no terminal obeys them.

    Newline and tab stay. C0 controls become U+2400 …; other controls, marks and overrides of the text's
    direction, byte-order marks, what XML does not allow, lone surrogates and bytes that are no UTF-8 become
    their number.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_visible_char, text))


def one_line(text: str) -> str:
    """Return text as ``visible`` does, with pictures of line ends and tabs, too."""
    return visible(text).replace("\n", "⏎").replace("\t", "→")


def _visible_char(char: str) -> str:
    code = ord(char)
    if 0x20 <= code < 0x7F or char in "\n\t":
        return char
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    hidden = (
        0x80 <= code < 0xA0
        or code in (0x061C, 0x200E, 0x200F, 0xFEFF, 0xFFFE, 0xFFFF)
        or 0x2028 <= code <= 0x202E
        or 0x2066 <= code <= 0x2069
    )
    return f"\\u{code:04x}" if hidden or 0xD800 <= code <= 0xDFFF else char


def sparkline(values: Sequence[float]) -> str:
    """Return one block per value, the lowest ``▁`` and the highest ``█``."""
    low, high = min(values), max(values)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((value - low) * scale)] for value in values)
