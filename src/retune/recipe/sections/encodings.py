"""Names of encodings that a recipe may state."""

from __future__ import annotations

import codecs
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from retune.recipe.sections.base import Text

_NO_FILES = frozenset({"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape"})
_AS_READ = {"iso8859-1": "cp1252", "ascii": "cp1252", "utf-8-sig": "utf-8"}
"""What files mean that say so: Latin-1 is read as Windows-1252, which has letters where Latin-1 has
control characters (https://encoding.spec.whatwg.org)."""


def _known(name: str) -> str:
    try:
        found = codecs.lookup(name)
        # Those that turn bytes into bytes, such as base64, have no decoder of text.
        "".encode(name)
    except (LookupError, ValueError) as error:
        raise _unknown(name) from error
    if found.name in _NO_FILES:
        raise _unknown(name)
    return _AS_READ.get(found.name, found.name)


def _unknown(name: str) -> PydanticCustomError:
    return PydanticCustomError(
        "value_error",
        "found {name}, expected the name of an encoding: utf-8, cp1252 (Windows; latin-1 is read "
        "as it), cp850, utf-16, or another that Python knows",
        {"name": repr(name)[:60]},
    )


Encoding = Annotated[Text, AfterValidator(_known)]
"""An encoding under the name that Python has for it."""
