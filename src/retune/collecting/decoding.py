"""Bytes of a page to text: what it says about its charset is tried, never guessed over."""

from __future__ import annotations

import codecs
import re

_META_CHARSET = re.compile(
    rb"<(?:meta|\?xml)[^>]{0,200}?(?:charset|encoding)=[\"']?([\w.:-]+)", re.I
)
_META_REACH = 4096
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Allowed: tab, line feed, carriage return.
_CONTROLS = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 127])


def decode_page(body: bytes, charset: str | None) -> str:
    """Decode a page.

    UTF-8 comes first, whatever is stated: text of another charset that happens to be valid UTF-8
    hardly exists, while servers that state ISO-8859-1 for everything do.

    Args:
        body: As it came.
        charset: As the server states it.

    Returns:
        Text without NUL and other control characters, which neither XML nor a model wants.
    """
    text = _decode(body, charset)
    return text.removeprefix("\ufeff").translate(_CONTROLS)


def _decode(body: bytes, charset: str | None) -> str:
    if body.startswith(_UTF16_MARKS):
        return body.decode("utf-16", "replace")
    stated = _META_CHARSET.search(body[:_META_REACH])
    for name in ("utf-8", charset, stated.group(1).decode() if stated else None):
        if name:
            try:
                return body.decode(_as_browsers_read(name))
            except (UnicodeDecodeError, LookupError):
                continue
    return body.decode("cp1252", "replace")


def _as_browsers_read(name: str) -> str:
    # https://encoding.spec.whatwg.org: pages that say ISO-8859-1 or ASCII mean Windows-1252.
    codec = codecs.lookup(name).name
    return "cp1252" if codec in {"iso8859-1", "ascii"} else codec
