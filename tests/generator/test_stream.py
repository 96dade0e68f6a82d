"""The pretraining stream: seeded, and without any Portuguese question that has its query."""

import random
import re

from generator.lexicon_pt import TEST_LEXICON
from generator.stream import Turn, draw_conversation
from generator.words import as_identifier

PORTUGUESE_WORDS = re.compile(
    r"\b(qual|quais|quantos|quantas|mostre|liste|exiba|dos|das|cuja|cujo|com|por)\b", re.IGNORECASE
)


def _draw(count: int, progress: float = 1.0) -> list[list[Turn]]:
    rng = random.Random(7)
    return [draw_conversation(rng, progress) for _ in range(count)]


def test_the_same_seed_draws_the_same_stream() -> None:
    assert _draw(50) == _draw(50)


def test_no_portuguese_question_is_answered_with_a_query() -> None:
    turns = [turn for turns in _draw(1500) for turn in turns]
    asked = [turn for turn in turns if turn.assistant.startswith("SELECT ")]
    assert len(asked) > 1500
    for turn in asked:
        question = turn.user.splitlines()[-1]
        # Portuguese names may stand in an English question; Portuguese grammar may not.
        assert not PORTUGUESE_WORDS.search(question), turn


def test_about_an_eighth_repeats_portuguese() -> None:
    conversations = _draw(3000)
    repeating = [turns for turns in conversations if turns[0].user.endswith(turns[0].assistant)]
    # 12 % of 3,000 is 360, and three standard deviations of that are 53.
    assert 307 <= len(repeating) <= 413


def test_words_of_the_test_half_come_in_english_questions_only() -> None:
    turns = [turns[0] for turns in _draw(3000)]
    kept_back = {as_identifier(entity.noun.plural) for entity in TEST_LEXICON.entities}

    def tables(turn: Turn) -> set[str]:
        return set(re.findall(r"TABLE (\w+)", turn.user))

    with_test_words = [turn for turn in turns if tables(turn) & kept_back]
    assert with_test_words
    assert all(turn.assistant.startswith("SELECT ") for turn in with_test_words)


def test_the_first_level_has_one_table() -> None:
    assert all("REFERENCES" not in turns[0].user for turns in _draw(300, progress=0.0))
    assert any("REFERENCES" in turns[0].user for turns in _draw(300, progress=1.0))
