"""In which language a text is, as far as a short text can tell."""

from __future__ import annotations

import re
from collections.abc import Iterable

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from retune.errors import ConfigError

UNDETERMINED = "und"
_FEWEST_LETTERS = 20
_LONGEST_TEXT = 400  # More characters make no safer guess, and time grows with them.
_LEAST_CONFIDENCE = 0.5
# Languages with many texts. Small siblings of them (Galician, Latin, Esperanto ...) are left out,
# unless the recipe names them: short texts of the large one would be taken for theirs.
# fmt: off
_LIKELY = frozenset({
    "ar", "bg", "bn", "ca", "cs", "da", "de", "el", "en", "es", "et", "fa", "fi", "fr", "he", "hi",
    "hr", "hu", "id", "it", "ja", "ko", "lt", "lv", "nl", "no", "pl", "pt", "ro", "ru", "sk", "sl",
    "sr", "sv", "ta", "th", "tr", "uk", "ur", "vi", "zh",
})
# fmt: on
_NO_LANGUAGE = re.compile(r"https?://\S+|www\.\S+|[@#]\w+|\bRT\b")


class LanguageFinder:
    """Guesses languages.

    Args:
        expected: Languages that the recipe names; they count as likely.
        key: Where it names them.

    Raises:
        ConfigError: The model does not know one of them.
    """

    def __init__(self, expected: Iterable[str] = (), key: str = "quality.languages") -> None:
        self._expected, self._key = frozenset(expected), key
        self._loaded = _load(self._expected, key) if self._expected else None

    def find(self, text: str) -> str:
        """Return the ISO 639-1 code of a text's language, `und` where it cannot be told."""
        words = _NO_LANGUAGE.sub(" ", text[:_LONGEST_TEXT])
        if sum(map(str.isalpha, words)) < _FEWEST_LETTERS:
            return UNDETERMINED
        # 80 MB and half a second: not for rows that are all too short.
        self._loaded = self._loaded or _load(self._expected, self._key)
        code, _ = self._loaded.classify(words)
        return str(code)


def _load(expected: frozenset[str], key: str) -> LanguageIdentifier:
    identifier = LanguageIdentifier.from_model_file(
        MODEL_FILE, norm_probs=True, min_confidence=_LEAST_CONFIDENCE
    )
    known = set(identifier.labels)
    unknown = sorted(expected - known)
    if unknown:
        raise ConfigError(
            f"{key}: {', '.join(unknown)} cannot be recognised. "
            f"Expected codes out of: {', '.join(sorted(known))}."
        )
    identifier.set_languages(sorted((_LIKELY | expected) & known))
    return identifier
