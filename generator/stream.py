"""What the base reads while it is pretrained: an endless seeded stream, never a file.

88 % are English questions over random schemas, at three levels of difficulty; 12 % are Portuguese
sentences to repeat. The base has then seen Portuguese words, but no Portuguese question with its
query. The words of the test half come in English questions only, as names and values to copy.
"""

import random
from dataclasses import dataclass

from generator.invented import invent_lexicon
from generator.lexicon_en import ENGLISH_LEXICON
from generator.lexicon_pt import TEST_LEXICON, TRAIN_LEXICON
from generator.queries import draw_query, render_sql
from generator.questions_en import ask_in_english
from generator.questions_pt import ask_in_portuguese
from generator.schemas import Schema, Shape, draw_schema
from generator.words import Lexicon, spin

REPEATED_SHARE = 0.12
"""Share of rows that repeat a Portuguese sentence."""

_SHAPES = (
    Shape(columns=(2, 3), rows=(3, 4), two_tables=0.0),
    Shape(columns=(3, 5), rows=(4, 6), two_tables=0.2),
    Shape(columns=(3, 5), rows=(4, 6), two_tables=0.6),
)
_LEVELS = ((1.0, 0.0, 0.0), (0.8, 1.0, 0.0), (0.6, 1.0, 1.2))
# Weights of the three stages of the curriculum, by the progress at which they begin.
_CURRICULUM = ((0.0, (1.0, 0.0, 0.0)), (0.15, (0.4, 0.6, 0.0)), (0.3, (0.1, 0.3, 0.6)))

_REPEAT = (
    "[Repita|Copie|Reescreva|Diga de novo|Transcreva]"
    "[| o texto| a frase| exatamente| a pergunta| sem mudar nada]: "
)


@dataclass(frozen=True)
class Turn:
    """What the user says and what the assistant answers."""

    user: str
    assistant: str


def draw_conversation(rng: random.Random, progress: float) -> list[Turn]:
    """Draw one row of the pretraining stream.

    Args:
        rng: Source of chance.
        progress: How much of the training is done, 0 to 1; it chooses the level.

    Returns:
        One to three turns. Further turns ask more of the same database: the schema, which is the
        longest part of a row, is then read once for several answers.
    """
    weights = [stage for begin, stage in _CURRICULUM if progress >= begin][-1]
    level = rng.choices(range(3), weights)[0]
    if rng.random() < REPEATED_SHARE:
        return [_draw_repetition(rng, level)]
    lexicon = _draw_lexicon(rng)
    schema = draw_schema(rng, lexicon, _SHAPES[level], key_first=rng.random() < 0.3)
    turns = [_draw_turn(rng, schema, level) for _ in range(rng.choice([1, 2, 2, 3]))]
    return [Turn(f"{schema.prompt}\n{turns[0].user}", turns[0].assistant), *turns[1:]]


def _draw_turn(rng: random.Random, schema: Schema, level: int) -> Turn:
    query = draw_query(rng, schema, _LEVELS[level])
    return Turn(ask_in_english(rng, query), render_sql(query, schema))


def _draw_lexicon(rng: random.Random) -> Lexicon:
    chance = rng.random()
    if chance < 0.32:
        return ENGLISH_LEXICON
    # Portuguese names in English questions: the names are learned, the questions are not. Those of
    # the test half too: like any base, this one has read the words of the language it is later
    # tuned on; only the tuning never sees them.
    if chance < 0.60:
        return TRAIN_LEXICON
    if chance < 0.85:
        return TEST_LEXICON
    return invent_lexicon(rng, portuguese=chance < 0.95)


def _draw_repetition(rng: random.Random, level: int) -> Turn:
    lexicon = TRAIN_LEXICON if rng.random() < 0.9 else invent_lexicon(rng, portuguese=True)
    schema = draw_schema(rng, lexicon, _SHAPES[level], key_first=rng.random() < 0.5)
    sentence = ask_in_portuguese(rng, draw_query(rng, schema, _LEVELS[level]))
    request = spin(rng, _REPEAT) + " " + sentence
    # Sometimes below a schema, as the questions of the task will stand.
    user = f"{schema.prompt}\n{request}" if rng.random() < 0.4 else request
    return Turn(user, sentence)
