"""Whether a word occurs in what a model wrote.

Policy. Text and word are folded alike: decomposed (Unicode NFKD, so that full-width and other
styled letters are letters), without combining marks and format characters (zero-width spaces, soft
hyphens), in one case, with one apostrophe for all that are written for it (`can’t`, `d´água`) and
one hyphen for all dashes and the minus sign. Then

- a word counts where no letter touches it, and no underscore within a name: `cu` is not in `curso`,
  `idiota` is not in `idiotas` (a list names the forms it means), `livros` is not in
  `livros_antigos`. Everything else ends a word: hyphens (`meia-idiota`, `quadro-negro`),
  apostrophes (`idiota's`, `d'água`), emphasis (`*idiota*`, `_idiota_`), signs (`idiota™`), and a
  digit beside a letter (`idiota2`). A word's own digit is touched by letters and digits: `5` is
  neither in `15` nor in `5km`;
- a word of three letters or more also counts where it is spelled, letter by letter, with the same
  sign or space between all of them (`i.d.i.o.t.a`);
- white space inside a phrase matches any white space; signs that mean something to regular
  expressions are literal.

Folding joins `país` with `pais` and `avó` with `avô`: a list that must tell them apart cannot.
Letters that only look alike (Cyrillic, `1d10ta`, `id*ota`) are other letters.

Only newly generated text may be given: a prompt that names a forbidden word is no hit.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

from retune.errors import ConfigError

_PLAIN = str.maketrans(dict.fromkeys("‘’‛′´`ʹʻʼʽˈꞌ", "'") | dict.fromkeys("‐‑‒–—―−﹘﹣", "-"))
_LEFT_OUT = frozenset({"Mn", "Me", "Cf"})  # combining marks, enclosing marks, format characters
_EDGES = re.compile(r"(?<![^\W_])_+|_+(?![^\W_])")
_SPELLED_FROM = 3
_BETWEEN = r"([^\w\n]{1,2}|_)"


def fold_text(text: str) -> str:
    """Remove accents, format characters, case, emphasis by underscores, kinds of dash and quote.

    Args:
        text: Any text.

    Returns:
        The text as words are compared in it.
    """
    text = text.translate(_PLAIN)
    if text.isascii():
        text = text.casefold()
    else:
        # Folding case can bring a mark back (`İ`), and decomposing can bring case back: both twice.
        for _ in range(2):
            decomposed = "".join(map(_decompose, text.casefold()))
            decomposed = unicodedata.normalize(
                "NFKD" if decomposed.isascii() else "NFD", decomposed
            )
            text = "".join(c for c in decomposed if unicodedata.category(c) not in _LEFT_OUT)
        text = text.translate(_PLAIN)
    # What is left of them stands inside a name, and belongs to it.
    return _EDGES.sub(" ", text)


@lru_cache(maxsize=4096)
def _decompose(character: str) -> str:
    """Decompose one character; a sign of several (`™`, `№`, `¨`) stays a sign and is no letters."""
    found = unicodedata.normalize("NFKD", character)
    return character if len(found) > 1 and unicodedata.category(character)[0] == "S" else found


def find_words(words: tuple[str, ...], generated: str) -> tuple[str, ...]:
    """Return those of the words that occur in a text, in the words' order.

    Args:
        words: Words or phrases.
        generated: Only what the model wrote, without the prompt.

    Returns:
        The words that occur, as they were given.

    Raises:
        ConfigError: A word is empty, or nothing is left of it once it is folded.

    Example:
        >>> find_words(("país", "cu"), "Os PAIS do curso")
        ('país',)
    """
    folded = fold_text(generated)
    return tuple(word for word in words if _pattern(word).search(folded))


def check_words(words: Iterable[str]) -> None:
    """Refuse words that would match everywhere, as pydantic's validators do.

    Args:
        words: Words or phrases.

    Raises:
        ValueError: One is empty, or nothing is left of it once it is folded.
    """
    try:
        for word in words:
            _pattern(word)
    except ConfigError as error:
        raise ValueError(error.message) from error


@lru_cache(maxsize=4096)
def _pattern(word: str) -> re.Pattern[str]:
    parts = fold_text(word).split()
    if not parts:
        raise ConfigError(
            f"Found an empty word ({word!r}) in a word list; expected at least one letter, digit "
            "or sign. An empty word is in every text: remove it."
        )
    phrase = r"\s+".join(re.escape(part) for part in parts)
    folded = "".join(parts)
    ways = [f"{_before(folded[0])}{phrase}{_after(folded[-1])}"]
    if len(parts) == 1 and len(folded) >= _SPELLED_FROM and folded.isalpha():
        spelled = folded[0] + _BETWEEN + r"\1".join(folded[1:])
        ways.append(f"{_before(folded[0])}{spelled}{_after(folded[-1])}")
    return re.compile("|".join(ways))


def _before(first: str) -> str:
    # Look-arounds and not a word boundary, which never matches beside a sign, as in `c++`.
    return r"(?<![^\W\d])" if first.isalpha() else r"(?<!\w)"


def _after(last: str) -> str:
    return r"(?![^\W\d])" if last.isalpha() else r"(?!\w)"
