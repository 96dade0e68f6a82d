"""English questions: the same queries as in Portuguese, said in one of many ways."""

import random
from collections.abc import Sequence

from generator.patterns_en import MACROS, PATTERNS
from generator.queries import Condition, Query
from generator.schemas import Column
from generator.words import ColumnType, Noun, Value, spin

_MORE = {
    ">": "[greater than|above|over|more than|higher than|larger than]",
    "<": "[less than|below|under|lower than|smaller than]",
    ">=": "[at least|greater than or equal to|at or above|no less than]",
    "<=": "[at most|less than or equal to|at or below|no more than]",
}
_WHEN = {
    ">": "[after|later than|past]",
    "<": "[before|earlier than]",
    ">=": "[on or after|from|no earlier than]",
    "<=": "[on or before|until|no later than]",
}
_WORDS_FOR_NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five"}


def ask_in_english(rng: random.Random, query: Query) -> str:
    """Say a query in English.

    Args:
        rng: Source of chance.
        query: What is asked.

    Returns:
        A question or a request, with the values as the database holds them.
    """
    pattern = rng.choice(PATTERNS[query.kind])
    for macro, choices in MACROS.items():
        pattern = pattern.replace(macro, choices)
    text = spin(rng, spin(rng, pattern).format_map(_slots(rng, query)))
    return _finish(rng, text)


def _finish(rng: random.Random, text: str) -> str:
    asks = text.split()[0].lower() in ("how", "what", "which", "can", "could", "in")
    mark = rng.choice("???? ") if asks and "?" not in text else rng.choice("..   ")
    text = text[0].lower() + text[1:] if rng.random() < 0.15 else text[0].upper() + text[1:]
    return text + mark.strip()


def _slots(rng: random.Random, query: Query) -> dict[str, object]:
    table = query.table.noun
    slots: dict[str, object] = {"t": table.plural, "one": table.singular}
    slots |= {"t_or_one": table.plural, "cond": _conditions(rng, query)}
    if query.columns:
        slots |= _column_slots(query.columns)
        slots["measure"] = _measure(query.function, query.columns[0].noun.singular)
    if query.group:
        group = _of_parent(rng, query.group.noun, query)
        slots |= {"g": group.singular, "gs": group.plural}
    if query.parent and query.beside:
        slots |= {"b": query.beside.noun.singular, "p": _owner(rng, query.parent.noun)}
    order = query.columns[-1] if query.kind == "above_average" else query.order
    if order:
        slots |= _order_slots(rng, order, query.descending)
    spell = query.limit in _WORDS_FOR_NUMBERS and rng.random() < 0.3
    slots["n"] = _WORDS_FOR_NUMBERS[query.limit] if spell else query.limit
    slots["threshold"] = query.threshold
    return slots


def _column_slots(columns: Sequence[Column]) -> dict[str, object]:
    return {
        "cols": _enumerate([column.noun.singular for column in columns]),
        "cols_pl": _enumerate([column.noun.plural for column in columns]),
        "c": columns[0].noun.singular,
        "cs": columns[0].noun.plural,
    }


def _order_slots(rng: random.Random, column: Column, descending: bool) -> dict[str, object]:
    name = column.noun.singular
    way = "[descending|decreasing]" if descending else "[ascending|increasing]"
    choices = [f"in {way} order of {name}", f"[sorted|ordered] by {name} [in {way} order|{way}]"]
    if column.type.is_number:
        ends = "highest to lowest" if descending else "lowest to highest"
        choices.append(f"from {ends} {name}")
    most = "[highest|largest|greatest]" if descending else "[lowest|smallest]"
    return {"k": name, "ks": column.noun.plural, "order": rng.choice(choices), "most": most}


def _measure(function: str, name: str) -> str:
    return {
        "AVG": f"the [average|mean|average value of the] {name}",
        "SUM": f"the [total|sum of the|total sum of the|overall total of the] {name}",
        "MIN": f"the [minimum|lowest|smallest] {name}",
        "MAX": f"the [maximum|highest|largest] {name}",
        "": "",
    }[function]


def _conditions(rng: random.Random, query: Query) -> str:
    if not query.conditions:
        return ""
    if query.parent and rng.random() < 0.4:
        condition = query.conditions[0]
        phrase = _condition(rng, condition, condition.column.noun.singular)
        bound = "[of|linked to|related to|belonging to]"
        return f" {bound} {query.parent.noun.plural} {phrase}"
    phrases = [
        _condition(rng, condition, _of_parent(rng, condition.column.noun, query).singular)
        for condition in query.conditions
    ]
    return " " + (" and " if query.connective == "AND" else " or ").join(phrases)


def _owner(rng: random.Random, parent: Noun) -> str:
    return rng.choice([f"the {parent.singular}", f"its {parent.singular}"])


def _of_parent(rng: random.Random, noun: Noun, query: Query) -> Noun:
    if query.parent is None:
        return noun
    owner = query.parent.noun.singular
    if rng.random() < 0.5:
        return Noun(f"{owner} {noun.singular}", f"{owner} {noun.plural}")
    return Noun(f"{noun.singular} of the {owner}", f"{noun.plural} of the {owner}")


def _condition(rng: random.Random, condition: Condition, name: str) -> str:
    first, *others = (_spoken(rng, value) for value in condition.values)
    operator = condition.operator
    if operator == "BETWEEN":
        return (
            f"[with {name} between {first} and {others[0]}|with {name} from {first} to {others[0]}"
            f"|whose {name} is between {first} and {others[0]}]"
        )
    if operator == "LIKE":
        return (
            f"[whose {name} [starts|begins] with [the letter|] {first}"
            f"|with {name} [starting|beginning] with [the letter|] {first}]"
        )
    if operator == "!=":
        return (
            f"[whose {name} is not {first}|with {name} [other than|different from] {first}"
            f"|that do not have {name} {first}]"
        )
    if operator == "=":
        return (
            f"[with {name} {first}|with {name} equal to {first}|whose {name} is {first}"
            f"|where [the|] {name} is {first}|that have {name} {first}]"
        )
    words = _WHEN if condition.column.type is ColumnType.DATE else _MORE
    return (
        f"[with {name} {words[operator]} {first}|whose {name} is {words[operator]} {first}"
        f"|that have {name} {words[operator]} {first}"
        f"|where [the|] {name} is {words[operator]} {first}]"
    )


def _spoken(rng: random.Random, value: Value) -> str:
    if isinstance(value, str) and not value[:4].isdigit():
        return rng.choice([value, value, value, f"'{value}'", f'"{value}"'])
    return str(value)


def _enumerate(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
