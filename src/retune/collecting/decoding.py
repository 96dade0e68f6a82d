"""Bytes of a page to text: what it says about its charset is tried, never guessed over."""

from __future__ import annotations

import codecs
import re

from retune.collecting.html.page_kinds import looks_wide

_META_CHARSET = re.compile(
    rb"<(?:meta|\?xml)[^>]{0,200}?(?:charset|encoding)\s*=\s*[\"']?\s*([\w.:-]+)", re.I
)
_META_REACH = 4096
_MARKS = (
    # UTF-32 first: its mark begins like that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Allowed: tab, line feed, carriage return.
_CONTROLS = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 127])
# Codecs of Python that are no charsets: what they decode is not what was written.
_NO_CHARSETS = frozenset(
    {"idna", "punycode", "unicode_escape", "raw-unicode-escape", "unicode-escape", "undefined"}
    | {"raw_unicode_escape", "utf-7", "mbcs", "oem"}
)
_ALIASES = {"x-sjis": "cp932", "x-gbk": "gbk", "x-euc-jp": "euc_jp", "x-mac-roman": "mac_roman"}
# Plain ASCII by their bytes, switched by escapes; as UTF-8 they would be valid and nonsense.
_SWITCHED = ("iso2022", "hz")
_MOST_BROKEN = 0.25
"""Of the letters beyond ASCII; text of another charset breaks in nearly all of them."""


def decode_page(body: bytes, charset: str | None) -> str:
    """Decode a page.

    UTF-8 comes first, whatever is stated: text of another charset that happens to be valid UTF-8
    hardly exists, while servers that state ISO-8859-1 for everything do. A few broken bytes do not
    make it another charset.

    Args:
        body: As it came.
        charset: As the server states it.

    Returns:
        Text without NUL and other control characters, which neither XML nor a model wants.
    """
    text = _decode(body, charset)
    return text.removeprefix("\ufeff").translate(_CONTROLS)


def _decode(body: bytes, charset: str | None) -> str:
    for mark, name in _MARKS:
        if body.startswith(mark):
            return body.decode(name, "replace")
    found = _META_CHARSET.search(body[:_META_REACH])
    stated = [
        codec
        for name in (charset, found.group(1).decode("ascii", "replace") if found else None)
        if name and (codec := _as_browsers_read(name))
    ]
    if looks_wide(body):
        # A charset that the page states in letters of one byte cannot be it.
        wide = "utf-16-le" if body[1:4096:2].count(0) > body[0:4096:2].count(0) else "utf-16-be"
        return body.decode(wide, "replace")
    switched = [codec for codec in stated if codec.startswith(_SWITCHED)]
    for codec in [*switched, "utf-8"]:
        try:
            return body.decode(codec)
        except UnicodeError:
            continue
    lenient = body.decode("utf-8", "replace")
    broken = lenient.count("\ufffd")
    meant = sum(ord(character) > 127 for character in lenient) - broken
    if broken <= _MOST_BROKEN * meant:
        return lenient
    for codec in stated:
        try:
            return body.decode(codec)
        except UnicodeError:
            continue
    return body.decode("cp1252", "replace")


def _as_browsers_read(name: str) -> str | None:
    # https://encoding.spec.whatwg.org: pages that say ISO-8859-1 or ASCII mean Windows-1252.
    cleaned = name.strip().strip("\"'").lower()
    try:
        codec = codecs.lookup(_ALIASES.get(cleaned, cleaned)).name
    except (LookupError, ValueError):
        return None
    if codec in _NO_CHARSETS or not codecs.lookup(codec)._is_text_encoding:
        return None
    return "cp1252" if codec in {"iso8859-1", "ascii"} else codec
