"""What a sentence does with a label that it names: says it, denies it, asks or doubts it.

Portuguese and English, in words as `retune.scoring.words.fold_text` leaves them;
docs/classification.md states the policy. It errs to one side: where words can be read in two ways,
a label is not said. The caller puts one mark (`MENTION`) in place of each label that a text names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

MENTION = "\ue000"
"""Stands for a label in a text; of Unicode's private use, and no letter."""

IS = "eh"
"""What `é` is written as: without its accent it would be `e` (and)."""

Use = Literal["said", "denied", "denied_plainly", "doubted", "asked"]


def _as_words(*lines: str) -> str:
    """Return a pattern of words and phrases that are divided by ` | `."""
    phrases = " | ".join(lines).split(" | ")
    found = "|".join(re.sub(r" +", r"\\s+", phrase.strip()) for phrase in phrases)
    return rf"(?<!\w)(?:{found})(?!\w)"


_ASSURANCE = re.compile(
    _as_words(
        r"sem (?:\w+ ){0,3}duvidas?(?: alguma)? | sem hesitar",
        r"nao (?:ha|tenho|resta|restam) (?:\w+ )?duvidas?(?: (?:de|que))*",
        r"nao (?:(?:eh|foi) )?(?:so|apenas|somente|meramente|simplesmente)",
        r"(?:nao eh )?nada (?:menos|mais|alem)(?: (?:do|de|que))*",
        r"no doubt(?: about it)? | without (?:(?:a|any) )?doubt",
        r"(?:there is|there's) no (?:doubt|question)(?: that)?",
        r"(?:not|isn't) (?:only|just|merely|simply) | nothing (?:but|less than|short of)",
    )
)
"""Phrases with a denying word that deny nothing."""

_DENYING_PHRASE = re.compile(
    _as_words(
        r"longe de | em vez de | ao inves de | em lugar de | no lugar de | tudo menos | livre de",
        r"isent[oa] de | contrario de | oposto de | a nao ser | deix(?:a|ou|am|aram) de",
        r"de (?:forma|modo|maneira|jeito) (?:alguma?|nenhuma?)",
        r"far from | rather than | instead of | anything but | anything other than | opposite of",
        r"contrary to | as opposed to | free of | free from | lack of | no longer | stops being",
        r"fail\w* to | (?:stops|falls) short of | rul(?:ed?|ing) out",
    )
)
_PHRASE = "\ue001"
"""Stands for a denying phrase, whose words would otherwise be read one by one."""

_PLAIN = r"nao | naum | n | not | non | isnt | \w+n't | \w+'nt"
_DENYING_WORDS = (
    r"nem | nunca | jamais | tampouco | nenhuma? | nada | ninguem | sem | exceto | falta",
    r"ausencia",
    r"raramente | dificilmente | improvavel | impossivel | falso | falsa | errado | errada",
    r"incorreto | discordo | neg(?:o|a|am|ou|ei|ar) | recuso | evit(?:e|o|ar) | erro | engano",
    r"zero",
    r"injust[oa] | rejeito | descarto | no | nor | never | neither | none | nothing",
    r"nobody | nope | without | except | lacks | lacking | hardly | barely | scarcely | rarely",
    r"seldom | unlikely | impossible | false | wrong | incorrect | untrue | cannot | dont | doesnt",
    r"didnt | cant | wont | wasnt | arent | aint | disagree",
    r"den(?:y|ies|ied) | reject | refuse | avoid | mistake | unfair",
)
_SIGN = rf"[!~¬≠](?==?\s?{MENTION})=?|<>|[❌✗✘☒🚫☐]|\[ ?\]"
_DENIAL = re.compile(rf"{_as_words(_PLAIN, *_DENYING_WORDS)}|{_SIGN}|{_PHRASE}")
_PLAIN_DENIAL = re.compile(_as_words(_PLAIN))
_AGREEING = frozenset({"nada", "nenhum", "nenhuma", "ninguem", "nem"})
"""Deny nothing anew behind another denial: `não é nada tóxico`."""

_AFTERWARDS = re.compile(
    _as_words(_PLAIN, r"nunca | jamais | never | falso | false | errado | wrong | incorret[oa]")
    + r"|[❌✗✘☒🚫]|\((?:nao|no|false|falso)\)|(?<!\w)(?:to no ?one|to nobody|a ninguem)(?!\w)"
)
"""What denies a label that stands before it: `positivo não é`."""

_FILLERS = re.compile(
    r"[\s\"'*`“”]*(?:(?:eh|e|foi|era|esta|ser|seja|sao|um|uma|o|a|de|do|da|texto|conteudo|caso|"
    r"comentario|mensagem|chamado|pedido|ticket|email|e-mail|avaliacao|review|frase|tweet|post|"
    r"publicacao|opiniao|documento|noticia|discurso|exemplo|tom|sentimento|considerad[oa]|classificad[oa]|como|nada|realmente|is|was|be|been|being|a|"
    r"an|the|at|all|really|text|content|comment|message|considered|classified|label+ed|as|case|of)"
    r"[\s\"'*`“”]+)*"
)
"""All that may stand between a denying word and what it denies plainly."""

_DOUBT = re.compile(
    _as_words(
        r"talvez | quica | provavel | provavelmente | possivel | possivelmente",
        r"pode(?:m|ria|riam)?",
        r"deve ser | deveria | seriam? | parec\w+ | aparent\w+ | soa | quase | pouco | levemente",
        r"ligeiramente | menos | meio | mais para | depende | incerto | nao (?:sei|consigo)",
        r"nao tenho certeza | dificil | duvido | suponho | imagino",
        r"perhaps | maybe | probably | possibly | likely | may | might | could | would be | can be",
        r"seem\w* | appear\w* | looks | sounds | almost | nearly | slightly | somewhat | mildly",
        r"a bit | a little | kind of | sort of | less | more or less | borderline | depends",
        r"unsure",
        r"uncertain | unclear | not sure | whether | if | hard to | difficult | can't | cannot",
        r"guess | suppose\w* | used to be | all but | doubt | meant to | should be",
        r"would have been",
        r"more like | too \w+ to | some (?:would|might|may) | era para | duvid\w+",
        r"\w+ demais para",
        r"exager\w+ | exaggerat\w+ | stretch | ha quem diga | some (?:call|say|think) | others",
        r"(?:alguns|algumas|muitos|muitas|outros|outras) (?:diriam|acham|dizem)",
        r"people (?:call|say)",
        rf" as {MENTION} as | tao {MENTION} (?:quanto|como)",
    )
    + r"|(?<![\w-])se(?![\w-])(?!\s+(?:trata|enquadra|encaixa|classifica|refere))"
)
_NEGATIVE_VALUE = r"\s*[\"'*_`]*(?:nao|no|n|not|false|falso|f|none|nenhum|nope|[+-]?\d)(?!\w)"
_KEY = re.compile(rf"[\"'*_`]*\s*(?:[:=]|[=-]>|→){_NEGATIVE_VALUE}")
"""Behind a label that is a question or a key: `tóxico: não`, `{{"toxic": false}}`."""

_BARE_NO = re.compile(r"\W*(?:nao|no|nope)\W*")
"""A clause that answers, and does not deny what comes behind its comma: `não, é tóxico`."""

_SENTENCE_END = re.compile(r"[.;!?\n]+")
_CLAUSE_END = re.compile(
    rf",|(?<!nao):(?!{_NEGATIVE_VALUE})|(?<!nao)(?<!not)(?<!non)\s-+\s|"
    + _as_words(
        r"mas | porem | contudo | todavia | entretanto | senao | e sim | e(?= eh) | portanto",
        r"logo | pelo contrario | por isso | porque | pois | then | but | however | yet",
        r"because | since",
        r"therefore | thus | hence | and(?= is) | and(?= it) | and so",
    )
)
_CLAUSE_END_AFTER_MENTION = re.compile(
    _as_words(
        r"que | e(?= nao) | e(?= nem) | embora | enquanto | ja que | visto que",
        r"that | which | as | and(?= not) | and(?= does) | although | while | though",
    )
)
"""Ends a clause that has named a label; before one, what follows belongs to what was denied."""

_STARTS_ANEW = re.compile(
    _as_words(
        r"eh | foi | esta | sim | mas | porem | sendo | trata-se | considero | classifico | diria",
        r"resposta | texto | portanto | logo | entao",
        r"is | was | it | it's | its | but | rather | instead | i | i'd | answer | therefore | so",
    )
)
"""What follows a denial behind a comma goes on with it (`not toxic, hateful or spam`), unless."""

_DENIALS_ALONE = re.compile(
    rf"\W*(?:(?:{_PLAIN.replace(' ', '')}|no|nope|false|falso|wrong|errado|eh|e|foi|mas|ou|or|o|"
    r"texto|ele|ela|isso|but|it|is|so|really|at|all|mesmo|and|that|this|i|would|say|actually)(?:\W+|$))*"
)
_PREFIX = re.compile(r"(\w+)-$")
_DENYING_PREFIXES = ("nao", "non", "not")
_COMPOUND = re.compile(r"-\w")
_NEAR, _FAR = 20, 200  # characters that a prefix, and what stands behind a plain denial, can take


def judge_mentions(text: str) -> tuple[list[Use], bool]:
    """Say what a text does with each label that it names.

    Args:
        text: Folded, `MENTION` in place of each label, `IS` in place of `é`.

    Returns:
        One use per mark, in their order, and whether a clause of denying words alone (`mas não é`)
        takes back what was said before it.
    """
    text = _ASSURANCE.sub(" ", text.replace(_PHRASE, " "))
    text = _DENYING_PHRASE.sub(_PHRASE, text)
    uses: list[Use] = []
    said = taken_back = False
    for sentence, asks in _sentences(text):
        all_alike: Use | None = "asked" if asks else "doubted" if _DOUBT.search(sentence) else None
        goes_on = False
        for clause in _clauses(sentence):
            found = _judge_clause(clause, goes_on)
            if found:
                goes_on = found[-1] != "said"
                said = said or (all_alike is None and "said" in found)
                uses += [all_alike or use for use in found]
            else:
                goes_on = goes_on or _leaves_open(clause)
                taken_back = taken_back or (said and _takes_back(clause))
    return uses, taken_back


def _sentences(text: str) -> Iterator[tuple[str, bool]]:
    """Yield each sentence, and whether it asks."""
    start = 0
    for end in _SENTENCE_END.finditer(text):
        # A sign directly before a label is no end: `!toxic`.
        if end[0] != "!" or not text.startswith(MENTION, end.end()):
            yield text[start : end.start()], "?" in end[0]
            start = end.end()
    yield text[start:], False


def _clauses(sentence: str) -> Iterator[str]:
    for part in _split(sentence):
        start, mention = 0, part.find(MENTION)
        while mention >= 0 and (end := _CLAUSE_END_AFTER_MENTION.search(part, mention)):
            yield part[start : end.start()]
            start = end.end()
            mention = part.find(MENTION, start)
        yield part[start:]


def _split(sentence: str) -> Iterator[str]:
    start = 0
    for end in _CLAUSE_END.finditer(sentence):
        yield sentence[start : end.start()]
        # A conjunction stays: it says that the clause starts anew.
        start = end.start() if end[0][0].isalpha() else end.end()
    yield sentence[start:]


def _judge_clause(clause: str, goes_on: bool) -> list[Use]:
    """Return the use of each label in a clause.

    Args:
        clause: Its text.
        goes_on: Whether a clause before it denied something.

    Returns:
        One use per mark.
    """
    places = [mark.start() for mark in re.finditer(MENTION, clause)]
    if not places:
        return []
    denials = [
        found
        for number, found in enumerate(_DENIAL.finditer(clause))
        if not number or found[0] not in _AGREEING
    ]
    can_say = not goes_on or _STARTS_ANEW.search(clause, 0, places[0]) is not None
    uses: list[Use] = []
    before = 0
    for place in places:
        while before < len(denials) and denials[before].start() < place:
            before += 1
        use = _use_of(clause, place, denials[max(0, before - 2) : before])
        if use == "said" and not can_say:
            use = "denied"
        uses.append(use)
    if uses[-1] == "said" and _AFTERWARDS.search(clause, places[-1] + 1):
        uses[-1] = "denied"
    return uses


def _use_of(clause: str, place: int, denials: list[re.Match[str]]) -> Use:
    """Say what a clause does with a label, from what stands before and directly behind it."""
    prefix = _PREFIX.search(clause, max(0, place - _NEAR), place)
    if prefix is not None:
        others = [one for one in denials if one.end() <= prefix.start()]
        return "denied" if others or prefix[1] not in _DENYING_PREFIXES else "denied_plainly"
    if _COMPOUND.match(clause, place + 1) or _KEY.match(clause, place + 1):
        return "denied"
    if not denials:
        return "said"
    denial = denials[-1]
    plainly = (
        len(denials) == 1
        and _PLAIN_DENIAL.fullmatch(denial[0])
        and place - denial.end() < _FAR
        and _FILLERS.fullmatch(clause, denial.end(), place)
    )
    return "denied_plainly" if plainly else "denied"


def _leaves_open(clause: str) -> bool:
    """Tell whether what a clause denies may stand behind its comma: `não é, creio, tóxico`."""
    return _BARE_NO.fullmatch(clause) is None and _DENIAL.search(clause) is not None


def _takes_back(clause: str) -> bool:
    denies = _DENIAL.search(clause) is not None
    return denies and _DENIALS_ALONE.fullmatch(clause) is not None
