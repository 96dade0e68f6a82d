"""Words with their forms, and the spinning of one sentence out of many ways to say it."""

import random
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

Value = str | int | float
"""One cell of a database row: TEXT, INTEGER or REAL."""

_INNERMOST_CHOICE = re.compile(r"\[([^\[\]]*)\]")


class ColumnType(Enum):
    """What a column holds; a date is stored as ISO text."""

    TEXT = "text"
    INTEGER = "integer"
    REAL = "real"
    DATE = "date"

    @property
    def sql(self) -> str:
        """Return the SQLite type that the schema declares."""
        return "TEXT" if self is ColumnType.DATE else self.name

    @property
    def is_number(self) -> bool:
        """Return whether sums and means make sense."""
        return self in (ColumnType.INTEGER, ColumnType.REAL)


@dataclass(frozen=True)
class Noun:
    """A noun as people write it: both numbers and, in Portuguese, its gender (``m`` or ``f``)."""

    singular: str
    plural: str
    gender: str = "m"


@dataclass(frozen=True)
class Entity:
    """What a table holds rows of, and its domain: ``p``erson, ``t``hing, p``l``ace or ``e``vent."""

    noun: Noun
    domain: str


@dataclass(frozen=True)
class Attribute:
    """Something a column can say of an entity.

    Attributes:
        noun: Its name.
        type: What the column holds.
        domains: The domains of entities that it suits.
        pool: The texts to draw from, for TEXT.
        low: Smallest number, or first year of a date.
        high: Largest number, or last year of a date.
        is_label: Whether it names the row (a name, a title).
    """

    noun: Noun
    type: ColumnType
    domains: str
    pool: tuple[str, ...] = ()
    low: int = 0
    high: int = 0
    is_label: bool = False


@dataclass(frozen=True)
class Lexicon:
    """Everything that schemas of one language, or one half of it, are made of."""

    entities: tuple[Entity, ...]
    attributes: tuple[Attribute, ...]


def parse_entities(text: str) -> tuple[Entity, ...]:
    """Read ``singular:plural:gender:domain`` lines.

    Args:
        text: One entity per line.

    Returns:
        The entities in the order of the lines.
    """
    fields = (line.strip().split(":") for line in text.strip().splitlines())
    return tuple(Entity(Noun(one, many, gender), domain) for one, many, gender, domain in fields)


def parse_attributes(text: str, pools: Mapping[str, tuple[str, ...]]) -> tuple[Attribute, ...]:
    """Read ``singular:plural:gender:type:domains:range`` lines.

    The range of a TEXT is the name of a pool, with ``*`` before it when the attribute names the
    row; of a number it is ``low-high``, of a date the first and last year.

    Args:
        text: One attribute per line.
        pools: Texts by pool name.

    Returns:
        The attributes in the order of the lines.
    """
    return tuple(_parse_attribute(line.strip(), pools) for line in text.strip().splitlines())


def _parse_attribute(line: str, pools: Mapping[str, tuple[str, ...]]) -> Attribute:
    one, many, gender, type_name, domains, source = line.split(":")
    noun, kind = Noun(one, many, gender), ColumnType(type_name)
    if kind is ColumnType.TEXT:
        pool = pools[source.removeprefix("*")]
        return Attribute(noun, kind, domains, pool, is_label=source.startswith("*"))
    low, high = source.split("-")
    return Attribute(noun, kind, domains, low=int(low), high=int(high))


def as_identifier(words: str) -> str:
    """Turn words into an ASCII snake_case name: ``preço unitário`` becomes ``preco_unitario``.

    Args:
        words: One or more words, accents allowed.

    Returns:
        The identifier.
    """
    plain = unicodedata.normalize("NFKD", words).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "_", plain.lower()).strip("_")


def spin(rng: random.Random, pattern: str) -> str:
    """Choose one way through ``[a|b|[c|d] e]``, innermost brackets first.

    Args:
        rng: Source of chance.
        pattern: Text with nested choices.

    Returns:
        The text without brackets, with runs of blanks joined.
    """
    found = 1
    while found:
        pattern, found = _INNERMOST_CHOICE.subn(
            lambda match: rng.choice(match[1].split("|")), pattern
        )
    return " ".join(pattern.split())
