"""Legible: names in any bytes as people and terminals can read them."""

import unicodedata

TURNS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Characters that turn the direction of the text after them."""


def legible(text: str) -> str:
    r"""The text with what can't be shown escaped: a byte that is no UTF-8 as `\xe9`, a line's end.

    So it can be written as UTF-8, and drawn: control characters, halves of a pair and what turns
    the direction of the text are escaped as Python does. Everything else stays.
    """
    return "".join(map(_legible, text))


def _legible(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # how Python keeps a byte of a file name
        return f"\\x{ord(character) - 0xDC00:02x}"
    odd = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in TURNS
    if odd or ord(character) & 0xFFFE == 0xFFFE:  # the last two are no characters, XML has none
        return character.encode("unicode_escape").decode()
    return character
