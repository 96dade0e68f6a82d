"""Signatures and the index of near copies."""

from collections.abc import Sequence

import numpy as np
import pytest
from datasketch import MinHash
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from retune.data.quality.near import (
    NearIndex,
    choose_bands,
    hash_parts,
    shingles,
    sign_sets,
    similarity,
)
from retune.data.quality.texts import PART, fold


def make_signatures(texts: Sequence[str]) -> NDArray[np.uint32]:
    """Sign texts of one part."""
    return sign_sets([part for text in texts for part in hash_parts(text)])


WORDS = st.lists(st.sampled_from(["um", "dois", "três", "quatro", "cinco"]), max_size=12)


@given(st.lists(WORDS.map(" ".join), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_signature_equals_datasketch(texts: list[str]) -> None:
    """Signatures made together are those that datasketch makes one by one."""
    for text, signature in zip(texts, make_signatures(texts), strict=True):
        reference = MinHash(num_perm=128)
        reference.update_batch(shingles(fold(text)))
        np.testing.assert_array_equal(signature, reference.hashvalues)


def test_signature_of_a_long_text_equals_datasketch() -> None:
    """A text whose shingles are hashed in several pieces has one signature."""
    text = " ".join(f"palavra{n}" for n in range(20_000))  # pieces have 8,192 shingles
    reference = MinHash(num_perm=128)
    reference.update_batch(shingles(fold(text)))
    short, found = make_signatures(["um texto curto demais", text])
    np.testing.assert_array_equal(found, reference.hashvalues)
    np.testing.assert_array_equal(short, make_signatures(["um texto curto demais"])[0])


def test_similarity_is_shared_shingles_over_all() -> None:
    """Two texts of five words that differ in the last one share 2 of 4 shingles."""
    # a b c, b c d, c d e against a b c, b c d, c d x: shared 2, together 4
    assert similarity("a b c d e", "A b c d X") == 0.5


def test_text_of_few_words_is_one_shingle() -> None:
    """Under three words there is nothing to share but the whole."""
    assert similarity("bom dia", "Bom dia!") == 1
    assert similarity("bom dia", "bom") == 0


def test_text_is_as_alike_as_its_least_alike_part() -> None:
    """A long context that two questions share does not make them one question."""
    context = " ".join(f"c{n}" for n in range(200))
    # a b c, b c d against a b c, b c x: 1 of 3; the context's 198 shingles are all shared
    assert similarity(f"a b c d{PART}{context}", f"a b c x{PART}{context}") == 1 / 3
    # without parts: 198 and the 1 shared, and of each text 3 others (b c d, c d c0, d c0 c1)
    assert similarity(f"a b c d {context}", f"a b c x {context}") == 199 / (199 + 3 + 3)


def test_scopes_keep_texts_apart() -> None:
    """One question over two databases shares no shingle, and so hardly a hash."""
    first, second, third = sign_sets([hash_parts("a b c d", scope)[0] for scope in "xyx"])
    assert (first == third).all()
    assert (first == second).mean() < 0.1


def _pair(number: int, words: int = 42) -> tuple[str, str]:
    """Two texts of Jaccard (40 - 2) / (40 + 2) = 0.905: 40 shingles, of which 2 differ."""
    text = [f"w{number}x{place}" for place in range(words)]
    return " ".join(text), " ".join([*text[:-2], "outra", "outro"])


def test_index_finds_constructed_pairs() -> None:
    """Of 300 pairs at Jaccard 0.9, an index at 0.8 finds at least 99 %."""
    pairs = [_pair(number) for number in range(300)]
    assert similarity(*pairs[0]) == pytest.approx(38 / 42)
    index = NearIndex(0.8)
    for place, signature in enumerate(make_signatures([first for first, _ in pairs])):
        index.add(place, signature)
    queries = make_signatures([second for _, second in pairs])
    hits = sum(place in index.query(signature) for place, signature in enumerate(queries))
    assert hits >= 297


def test_index_names_few_strangers() -> None:
    """Texts that share no shingle are hardly ever candidates, also once tables have grown."""
    index = NearIndex(0.8)
    texts = [
        " ".join(f"t{n}w{w}" for w in range(20)) for n in range(3000)
    ]  # from 1,024 on to 4,096
    signatures = make_signatures(texts)
    for place, signature in enumerate(signatures):
        index.add(10 * place, signature)
    found = [index.query(signature) for signature in signatures]
    assert all(10 * place in places for place, places in enumerate(found))
    assert sum(map(len, found)) <= 3000 + 5


@pytest.mark.parametrize("threshold", [0.51, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0])
def test_bands_find_pairs_at_the_threshold(threshold: float) -> None:
    """A pair just at the threshold shares a band with 99 % probability."""
    bands, rows = choose_bands(threshold)
    assert bands * rows <= 128
    assert 1 - (1 - threshold**rows) ** bands >= 0.99
