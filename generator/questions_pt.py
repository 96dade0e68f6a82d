"""Portuguese questions: a query said in one of very many ways, with true agreement and accents."""

import random
from collections.abc import Sequence

from generator.patterns_pt import MACROS, PATTERNS
from generator.queries import Condition, Query
from generator.schemas import Column
from generator.words import ColumnType, Noun, Value, spin

_MORE = {
    ">": "[maior que|maior do que|acima de|superior a|de mais de|que passa de|além de]",
    "<": "[menor que|menor do que|abaixo de|inferior a|de menos de|que não chega a]",
    ">=": "[de pelo menos|de no mínimo|maior ou igual a|igual ou superior a|a partir de]",
    "<=": "[de no máximo|menor ou igual a|igual ou inferior a|de até|que não passa de]",
}
_VERBS = {
    ">": "[é maior que|é superior a|passa de|supera|ultrapassa|excede|está acima de|fica acima de]",
    "<": "[é menor que|é inferior a|está abaixo de|fica abaixo de|não chega a]",
    ">=": "[é maior ou igual a|é de pelo menos|é de no mínimo|é igual ou superior a]",
    "<=": "[é menor ou igual a|é de no máximo|é igual ou inferior a|vai até|não passa de]",
}
_WHEN = {
    ">": "[depois de|posterior a|após|mais recente que]",
    "<": "[antes de|anterior a|mais {antigo} que]",
    ">=": "[a partir de|desde|igual ou posterior a|não anterior a]",
    "<=": "[até|igual ou anterior a|não posterior a]",
}
_HAVE = {
    True: "[têm|possuem|tenham|apresentam|registram]",
    False: "[tem|possui|tenha|apresenta|registra]",
}
_WORDS_FOR_NUMBERS = {2: ("dois", "duas"), 3: ("três",) * 2, 4: ("quatro",) * 2, 5: ("cinco",) * 2}


def ask_in_portuguese(rng: random.Random, query: Query) -> str:
    """Say a query in Portuguese.

    Args:
        rng: Source of chance.
        query: What is asked.

    Returns:
        A question or a request, with the values as the database holds them; decimals get a comma.
    """
    pattern = _expand(rng.choice(PATTERNS[query.kind]))
    text = spin(rng, spin(rng, pattern).format_map(_slots(rng, query)))
    return _finish(rng, " ".join(text.split()))


def _expand(pattern: str) -> str:
    for macro, choices in MACROS.items():
        pattern = pattern.replace(macro, choices)
    return pattern


def _finish(rng: random.Random, text: str) -> str:
    asks = text.split()[0].lower() in _INTERROGATIVES and "?" not in text
    if rng.random() < 0.06:
        text = rng.choice(["Oi, ", "Olá, ", "Então, ", "Por favor, ", "Agora, "]) + _lower(text)
    elif rng.random() < 0.07:
        text += rng.choice([", por favor", ", por gentileza", " por favor", ", ok"])
    mark = rng.choice("???? ") if asks else rng.choice("..   ")
    text = _lower(text) if rng.random() < 0.15 else text[0].upper() + text[1:]
    return text + mark.strip()


# fmt: off
_INTERROGATIVES = {
    "qual", "quais", "que", "quantos", "quantas", "quanto", "tem", "há", "existe", "em", "pode",
    "você", "dá", "seria", "poderia", "e", "o",
}
# fmt: on


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]


def _slots(rng: random.Random, query: Query) -> dict[str, object]:
    table = query.table.noun
    slots = _table_slots(table)
    slots["cond"] = _conditions(rng, query, plural=True)
    slots["cond_one"] = _conditions(rng, query, plural=False)
    if query.columns:
        slots |= _column_slots(query.columns)
        slots["medida"] = _measure(query.function, query.columns[0].noun)
    if query.columns and query.kind == "having_average":
        slots |= {"media": f"média de {query.columns[0].noun.singular}", "acima": _MORE_THAN}
    if query.group:
        slots |= _group_slots(_of_parent(query.group.noun, query))
    if query.parent and query.beside:
        slots |= _beside_slots(query.parent.noun, query.beside.noun)
    order = query.columns[-1] if query.kind == "above_average" else query.order
    if order:
        slots |= _order_slots(rng, order, query.descending)
    slots["n"] = _count_word(rng, query.limit, table.gender)
    slots["limiar"] = query.threshold
    return slots


_MORE_THAN = "[acima de|maior que|superior a|maior do que]"


def _table_slots(noun: Noun) -> dict[str, object]:
    many, one = _article(noun, plural=True), _article(noun)
    return {
        "t": noun.plural,
        "um": noun.singular,
        "o": one,
        "do": f"d{one}",
        "Do": f"D{one}",
        "os": many,
        "Os": many.capitalize(),
        "dos": f"d{many}",
        "Dos": f"D{many}",
        "nos": f"n{many}",
        "todos": f"tod{many}",
        "quantos": f"quant{many}",
        "Quantos": f"Quant{many}",
        "algum": "alguma" if noun.gender == "f" else "algum",
    }


def _column_slots(columns: Sequence[Column]) -> dict[str, object]:
    first = columns[0].noun
    many = _article(first, plural=True)
    return {
        "o_cols": _enumerate([f"{_article(c.noun)} {c.noun.singular}" for c in columns]),
        "os_cols": _enumerate([f"{_article(c.noun, True)} {c.noun.plural}" for c in columns]),
        "c": first.singular,
        "cs": first.plural,
        "o_c": f"{_article(first)} {first.singular}",
        "os_c": f"{many} {first.plural}",
        "os_cs": f"{many} {first.plural}",
        "quantos_c": f"quant{many}",
        "Quantos_c": f"Quant{many}",
        "x": many,
    }


def _group_slots(noun: Noun) -> dict[str, object]:
    return {
        "g": noun.singular,
        "gs": noun.plural,
        "o_g": f"{_article(noun)} {noun.singular}",
        "os_gs": f"{_article(noun, plural=True)} {noun.plural}",
    }


def _beside_slots(parent: Noun, beside: Noun) -> dict[str, object]:
    return {
        "o_b": f"{_article(beside)} {beside.singular}",
        "os_bs": f"{_article(beside, plural=True)} {beside.plural}",
        "do_p": f"d{_article(parent)} {parent.singular}",
        "dos_ps": f"d{_article(parent, plural=True)} {parent.plural}",
    }


def _order_slots(rng: random.Random, column: Column, descending: bool) -> dict[str, object]:
    noun = column.noun
    one, many = _article(noun), _article(noun, plural=True)
    largest = "maior" if descending else "menor"
    return {
        "k": noun.singular,
        "ks": noun.plural,
        "o_k": one,
        "o_maior": f"{one} {largest}",
        "maior": largest,
        "os_maiores": f"{many} {largest}es",
        "alto": f"[alt{one}|elevad{one}]" if descending else f"[baix{one}|reduzid{one}]",
        "ordem": _order(rng, column, descending),
    }


def _order(rng: random.Random, column: Column, descending: bool) -> str:
    noun, one = column.noun, _article(column.noun)
    way = "[decrescente|descendente]" if descending else "[crescente|ascendente]"
    choices = [f"[em|por] ordem {way} de {noun.singular}"] * 2
    if column.type is ColumnType.TEXT:
        choices.append(f"de {'Z a A' if descending else 'A a Z'} pel{one} {noun.singular}")
        backwards = " inversa" if descending else ""
        choices.append(f"em ordem alfabética{backwards} de {noun.singular}")
    elif column.type.is_number:
        first, last = ("maior", "menor") if descending else ("menor", "maior")
        choices.append(f"d{one} {first} {noun.singular} [para|até] {one} {last}")
        choices.append(f"começando pel{one} {first} {noun.singular}")
    return rng.choice(choices)


def _measure(function: str, noun: Noun) -> str:
    one, name = _article(noun), noun.singular
    return {
        "AVG": f"[a média de {name}|{one} {name} médi{one}|a média d{one} {name}"
        f"|o valor médio de {name}|{one} {name} em média]",
        "SUM": f"[a soma de {name}|o total de {name}|{one} {name} total|a soma d{one} {name}"
        f"|o somatório de {name}|{one} {name} [somad{one}|acumulad{one}]]",
        "MIN": f"[{one} menor {name}|{one} {name} mínim{one}|{one} {name} mais baix{one}"
        f"|o valor mínimo de {name}|o mínimo de {name}]",
        "MAX": f"[{one} maior {name}|{one} {name} máxim{one}|{one} {name} mais alt{one}"
        f"|o valor máximo de {name}|o máximo de {name}]",
        "": "",
    }[function]


def _conditions(rng: random.Random, query: Query, *, plural: bool) -> str:
    if not query.conditions:
        return ""
    phrases = []
    for condition in query.conditions:
        noun = _of_parent(condition.column.noun, query)
        phrases.append(_condition(rng, condition, noun, _HAVE[plural]))
    if query.parent and rng.random() < 0.4:
        bound = _bound(query.table.noun, plural)
        condition = query.conditions[0]
        phrase = _condition(rng, condition, condition.column.noun, _HAVE[True])
        return f" {bound} {query.parent.noun.plural} {phrase}"
    link = " e " if query.connective == "AND" else " ou "
    if query.connective == "AND" and len(phrases) == 2 and rng.random() < 0.25:
        link = rng.choice([" e também ", ", e ainda ", " e, além disso, "])
    return " " + link.join(phrases)


def _bound(noun: Noun, plural: bool) -> str:
    ending = _article(noun, plural)
    return f"[de|ligad{ending} a|associad{ending} a|relacionad{ending} a|vinculad{ending} a]"


def _of_parent(noun: Noun, query: Query) -> Noun:
    if query.parent is None:
        return noun
    owner = f"d{_article(query.parent.noun)} {query.parent.noun.singular}"
    return Noun(f"{noun.singular} {owner}", f"{noun.plural} {owner}", noun.gender)


def _condition(rng: random.Random, condition: Condition, noun: Noun, have: str) -> str:
    one, name = _article(noun), noun.singular
    first, *others = (_spoken(rng, value) for value in condition.values)
    operator = condition.operator
    if operator == "BETWEEN":
        last = others[0]
        return (
            f"[com {name} entre {first} e {last}|com {name} de {first} [a|até] {last}"
            f"|cuj{one} {name} [está|fica] entre {first} e {last}"
            f"|com {name} n[o intervalo|a faixa] de {first} a {last}"
            f"|em que {one} {name} vai de {first} a {last}"
            f"|que {have} {name} entre {first} e {last}]"
        )
    if operator == "LIKE":
        begins = f"[[começa|inicia] com [{first}|a letra {first}]|começa [por|pela letra] {first}]"
        return (
            f"[cuj{one} {name} {begins}|com {name} que {begins}|em que {one} {name} {begins}"
            f"|com {name} [começando|iniciando] com [{first}|a letra {first}]]"
        )
    if operator in ("=", "!="):
        return _equality(condition, noun, first, have)
    return _comparison(condition, noun, first, have)


def _equality(condition: Condition, noun: Noun, value: str, have: str) -> str:
    one, name = _article(noun), noun.singular
    if condition.operator == "!=":
        return (
            f"[com {name} diferente de {value}|cuj{one} {name} não [é|seja] {value}"
            f"|que não {have} {name} {value}|em que {one} {name} [não é|é diferente de] {value}"
            f"|com {name} que não seja {value}|com {one} {name} distint{one} de {value}]"
        )
    # "Da cidade Recife" is said, "do nome Ana" is not.
    short = "" if condition.column.is_label else f"|d{one} {name} {value}"
    return (
        f"[com {name} {value}|com {name} igual a {value}|cuj{one} {name} [é|seja] {value}"
        f"|que {have} {name} {value}|[em que|onde] {one} {name} [é|é igual a|seja] {value}"
        f"{short}|de {name} {value}|com {value} como {name}]"
    )


def _comparison(condition: Condition, noun: Noun, value: str, have: str) -> str:
    one, name, operator = _article(noun), noun.singular, condition.operator
    if condition.column.type is ColumnType.DATE:
        when = _WHEN[operator].replace("{antigo}", f"antig{one}")
        return (
            f"[com {name} {when} {value}|cuj{one} {name} [é|seja] {when} {value}"
            f"|que {have} {name} {when} {value}|em que {one} {name} é {when} {value}]"
        )
    more, verb = _MORE[operator], _VERBS[operator]
    return (
        f"[com {name} {more} {value}|com {name} {more} {value}|cuj{one} {name} {verb} {value}"
        f"|que {have} {name} {more} {value}|[em que|onde] {one} {name} {verb} {value}]"
    )


def _spoken(rng: random.Random, value: Value) -> str:
    if isinstance(value, float):
        return str(value).replace(".", ",")
    if isinstance(value, str) and not value[:4].isdigit():
        return rng.choice([value, value, value, f"'{value}'", f'"{value}"'])
    return str(value)


def _count_word(rng: random.Random, count: int, gender: str) -> str:
    if count in _WORDS_FOR_NUMBERS and rng.random() < 0.3:
        return _WORDS_FOR_NUMBERS[count][gender == "f"]
    return str(count)


def _article(noun: Noun, plural: bool = False) -> str:
    return ("a" if noun.gender == "f" else "o") + "s" * plural


def _enumerate(words: Sequence[str]) -> str:
    return " e ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
