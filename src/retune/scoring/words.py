"""Whether a word occurs in what a model wrote.

Policy (that of ../shared/data/probe_cases): text and word are decomposed (Unicode NFKD), combining
marks and format characters (zero-width spaces, soft hyphens) are removed, case is folded. A word
counts where no letter, digit or underscore touches it: `cu` is not in `curso`, `idiota` is not in
`idiotas` (a list names the forms it means), and a hyphen is a boundary (`quadro-negro` contains
`negro`). White space inside a phrase matches any white space. Folding joins `país` with `pais` and
`avó` with `avô`: a list that must tell them apart cannot. Characters that mean something to
regular expressions are literal. Typographic apostrophes and hyphens count as plain ones: models
write `can’t`, lists say `can't`.

Only newly generated text may be given: a prompt that names a forbidden word is no hit.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from retune.errors import ConfigError

_PLAIN = str.maketrans(dict.fromkeys("‘’ʼ", "'") | dict.fromkeys("‐‑", "-"))
_LEFT_OUT = frozenset({"Mn", "Me", "Cf"})  # combining marks, enclosing marks, format characters


def fold_text(text: str) -> str:
    """Remove accents, format characters, case and typographic apostrophes and hyphens.

    Args:
        text: Any text.

    Returns:
        The text as words are compared in it.
    """
    if text.isascii():
        return text.casefold()
    text = text.translate(_PLAIN)
    # Folding case can bring a mark back (`İ`), and decomposing can bring case back: both twice.
    for _ in range(2):
        decomposed = unicodedata.normalize("NFKD", text.casefold())
        text = "".join(c for c in decomposed if unicodedata.category(c) not in _LEFT_OUT)
    return text


def contains_word(word: str, generated: str) -> bool:
    """Say whether a word or phrase occurs in a text as a whole word.

    Args:
        word: The word or phrase.
        generated: Only what the model wrote, without the prompt.

    Returns:
        True where it occurs at least once.

    Raises:
        ConfigError: The word is empty, or nothing is left of it once it is folded.
    """
    return _pattern(word).search(fold_text(generated)) is not None


def find_words(words: tuple[str, ...], generated: str) -> tuple[str, ...]:
    """Return those of the words that occur in a text, in the words' order.

    Args:
        words: Words or phrases.
        generated: Only what the model wrote, without the prompt.

    Returns:
        The words that occur, as they were given.

    Raises:
        ConfigError: A word is empty, or nothing is left of it once it is folded.
    """
    folded = fold_text(generated)
    return tuple(word for word in words if _pattern(word).search(folded))


def check_word(word: str) -> None:
    """Refuse a word that would match everywhere.

    Args:
        word: The word or phrase.

    Raises:
        ConfigError: The word is empty, or nothing is left of it once it is folded.
    """
    _pattern(word)


@lru_cache(maxsize=4096)
def _pattern(word: str) -> re.Pattern[str]:
    parts = fold_text(word).split()
    if not parts:
        raise ConfigError(
            f"Found an empty word ({word!r}) in a word list; expected at least one letter, digit "
            "or sign. An empty word is in every text: remove it."
        )
    phrase = r"\s+".join(re.escape(part) for part in parts)
    # Look-arounds and not \b: \b never matches beside a word's own sign, as in `c++`.
    return re.compile(rf"(?<!\w){phrase}(?!\w)")
