"""Made-up words, so that copying a name into a query is a skill and not a memory.

Two sounds: English-like (``brantel``) and Portuguese-like with accents and true plural rules
(``fanção`` -> ``fanções``). The second lets the base learn that ``preção`` is written ``precao``
in a schema, from English questions alone.
"""

import random

from generator.words import Attribute, ColumnType, Entity, Lexicon, Noun

# fmt: off
_ONSETS = [
    "b", "br", "c", "cl", "cr", "d", "dr", "f", "fl", "g", "gr", "h", "j", "k", "l", "m", "n",
    "p", "pl", "pr", "r", "s", "sh", "st", "t", "tr", "v", "w", "z",
]
_VOWELS = [
    "a", "e", "i", "o", "u", "ai", "ea", "oo",
]
_CODAS = [
    "b", "ck", "d", "ft", "g", "l", "ll", "lt", "m", "n", "nd", "ng", "nt", "p", "r", "rd",
    "rk", "s", "sk", "st", "t", "x",
]
_PT_ONSETS = [
    "b", "br", "c", "ch", "cl", "d", "f", "fl", "g", "gr", "j", "l", "lh", "m", "n", "nh", "p",
    "pr", "qu", "r", "s", "t", "tr", "v", "x", "z",
]
_PT_VOWELS = [
    "a", "e", "i", "o", "u", "a", "e", "i", "o", "u", "á", "é", "í", "ó", "ú", "â", "ê", "ã",
    "ei", "ou", "au",
]
# fmt: on
# (singular ending, plural ending, gender): the pairs a Portuguese learner meets first.
_PT_ENDINGS = [
    ("o", "os", "m"),
    ("a", "as", "f"),
    ("e", "es", "m"),
    ("ção", "ções", "f"),
    ("são", "sões", "f"),
    ("ário", "ários", "m"),
    ("ência", "ências", "f"),
    ("ória", "órias", "f"),
    ("ável", "áveis", "m"),
    ("al", "ais", "m"),
    ("el", "éis", "m"),
    ("or", "ores", "m"),
    ("ora", "oras", "f"),
    ("dade", "dades", "f"),
    ("agem", "agens", "f"),
    ("im", "ins", "m"),
    ("ço", "ços", "m"),
    ("ês", "eses", "m"),
    ("ículo", "ículos", "m"),
    ("ética", "éticas", "f"),
]
_DOMAINS = "ptle"


def invent_noun(rng: random.Random, *, portuguese: bool) -> Noun:
    """Make up a noun.

    Args:
        rng: Source of chance.
        portuguese: Whether it looks and inflects like Portuguese.

    Returns:
        The noun with its plural.
    """
    if not portuguese:
        word = _english_word(rng)
        return Noun(word, word + ("es" if word[-1] in "sxh" else "s"))
    noun = _portuguese_noun(rng)
    if rng.random() < 0.2:
        tail = _portuguese_noun(rng).singular
        return Noun(f"{noun.singular} de {tail}", f"{noun.plural} de {tail}", noun.gender)
    return noun


def invent_lexicon(rng: random.Random, *, portuguese: bool) -> Lexicon:
    """Make up the words of one schema.

    Args:
        rng: Source of chance.
        portuguese: Whether they look and inflect like Portuguese.

    Returns:
        A lexicon of a few entities and a dozen attributes that suit all of them.
    """
    entities = (
        Entity(invent_noun(rng, portuguese=portuguese), domain) for domain in _DOMAINS for _ in "12"
    )
    types = [*ColumnType, ColumnType.TEXT, ColumnType.INTEGER, ColumnType.REAL] * 2
    label = _invent_attribute(rng, ColumnType.TEXT, portuguese, is_label=True)
    others = (_invent_attribute(rng, kind, portuguese, is_label=False) for kind in types)
    return Lexicon(tuple(entities), (label, *others))


def _invent_attribute(
    rng: random.Random, kind: ColumnType, portuguese: bool, *, is_label: bool
) -> Attribute:
    noun = invent_noun(rng, portuguese=portuguese)
    if kind is ColumnType.TEXT:
        pool = tuple(_invent_value(rng, portuguese) for _ in range(30 if is_label else 6))
        return Attribute(noun, kind, _DOMAINS, pool, is_label=is_label)
    if kind is ColumnType.DATE:
        return Attribute(noun, kind, _DOMAINS, low=1990, high=2025)
    return Attribute(noun, kind, _DOMAINS, low=1, high=rng.choice([9, 60, 300, 9000]))


def _invent_value(rng: random.Random, portuguese: bool) -> str:
    words = [invent_noun(rng, portuguese=portuguese).singular for _ in range(rng.choice([1, 1, 2]))]
    text = " ".join(words)
    return text.title() if rng.random() < 0.5 else text


def _english_word(rng: random.Random) -> str:
    syllables = [rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(rng.choice([1, 1, 2]))]
    return "".join(syllables) + rng.choice(_CODAS)


def _portuguese_noun(rng: random.Random) -> Noun:
    count = rng.choice([1, 1, 2])
    stem = "".join(rng.choice(_PT_ONSETS) + rng.choice(_PT_VOWELS) for _ in range(count))
    stem += rng.choice("bcdfglmnprstv")
    singular, plural, gender = rng.choice(_PT_ENDINGS)
    return Noun(stem + singular, stem + plural, gender)
