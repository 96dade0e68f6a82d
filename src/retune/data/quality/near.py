"""Near copies: MinHash signatures of shingles, and an index that finds alike ones.

A text's shingles are all runs of three words of the folded text; a shorter text is one shingle.
Similarity is Jaccard's: shared shingles over all shingles of both. A signature holds, for each of
128 permutations, the smallest hash over the shingles, so that two signatures agree in about that
share of places. A row's text has parts (earlier turns, question, context), and is as alike as its
least alike part: many questions about one long context are no copies of each other. Its shingles
are those of all parts.

An index cuts signatures into bands: texts that agree in a whole band are candidates. It may name
texts that are not alike (confirm each by `similarity`), and misses under 1 % of those at its
threshold. `near_indexes` says where it lies.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha1

import numpy as np
from datasketch import MinHash
from numpy.typing import NDArray

from retune.data.quality.texts import PART, fold

PERMUTATIONS = 128
SHINGLE_WORDS = 3
RECALL = 0.99
"""Least share of pairs at the threshold that an index finds."""
_MARGIN = 4.0  # standard deviations of an estimated similarity
_HASHES_AT_ONCE = 8192  # 4 MB of permuted hashes
LONGEST_CHAIN = 64
"""Most texts of one band's hash that are looked at, the newest: texts made from one template share
bands, and without an end the work would grow with the square of their number."""

Hashes = NDArray[np.uint32]


def shingles(folded: str, scope: str | None = None) -> set[bytes]:
    """Return the runs of three words of a folded text.

    Args:
        folded: A text that `fold` returned.
        scope: What texts must share to be compared at all (their database); None for nothing.

    Returns:
        At least one shingle; those of two scopes never equal each other.
    """
    words = folded.split(" ")
    runs = [folded]
    if len(words) > SHINGLE_WORDS:
        runs = [" ".join(run) for run in zip(words, words[1:], words[2:], strict=False)]
    before = "" if scope is None else f"{scope}\x00"
    return {f"{before}{run}".encode() for run in runs}


def similarity(a: str, b: str) -> float:
    """Return how alike two texts are.

    Args:
        a: A text, not folded; with parts where `row_text` made it.
        b: Another.

    Returns:
        Jaccard similarity of their shingles, from 0 to 1: that of the least alike part, where both
        have as many parts.
    """
    return parts_similarity(hash_parts(a), hash_parts(b))


def hash_parts(text: str, scope: str | None = None) -> list[Hashes]:
    """Return the sorted 32-bit hashes of the shingles of a text's parts, as datasketch hashes."""
    return [_hash_shingles(fold(part), scope) for part in text.split(PART)]


def _hash_shingles(folded: str, scope: str | None) -> Hashes:
    found = b"".join(sha1(shingle).digest()[:4] for shingle in shingles(folded, scope))
    return np.unique(np.frombuffer(found, dtype="<u4").astype(np.uint32))


def parts_similarity(a: Sequence[Hashes], b: Sequence[Hashes]) -> float:
    """Return the least Jaccard similarity of parts; of all together where their numbers differ."""
    if len(a) != len(b):
        return _jaccard(np.unique(np.concatenate(a)), np.unique(np.concatenate(b)))
    return min(_jaccard(first, second) for first, second in zip(a, b, strict=True))


def _jaccard(a: Hashes, b: Hashes) -> float:
    shared = np.intersect1d(a, b, assume_unique=True).size
    return float(shared / (a.size + b.size - shared))


def sign_sets(sets: Sequence[Hashes]) -> NDArray[np.uint32]:
    """Return the signatures of hashed shingles, ``(sets, 128)``; none is empty, repeats may be."""
    signatures = np.empty((len(sets), PERMUTATIONS), dtype=np.uint32)
    # The shingles are hashes already: `int` leaves them as they are.
    blank = MinHash(num_perm=PERMUTATIONS, hashfunc=int)
    for place, one in enumerate(sets):
        signature = blank.copy()
        for start in range(0, one.size, _HASHES_AT_ONCE):
            signature.update_batch(one[start : start + _HASHES_AT_ONCE].tolist())
        signatures[place] = signature.hashvalues
    return signatures


def estimate_margin(threshold: float) -> float:
    """Return how far below a threshold the share of equal places may lie by chance.

    Args:
        threshold: Similarity t of the texts.

    Returns:
        Four standard deviations sqrt(t * (1 - t) / 128) of the share: 0.14 at 0.8.
    """
    return _MARGIN * math.sqrt(threshold * (1 - threshold) / PERMUTATIONS)


def choose_bands(threshold: float) -> tuple[int, int]:
    """Return bands and rows per band: the longest bands that still find what is to be found.

    Args:
        threshold: Similarity s from which pairs shall be found.

    Returns:
        Bands b and rows r, b * r at most 128, with 1 - (1 - s^r)^b at least `RECALL`.
    """
    for rows in range(PERMUTATIONS, 1, -1):
        bands = PERMUTATIONS // rows
        if 1 - (1 - threshold**rows) ** bands >= RECALL:
            return bands, rows
    return PERMUTATIONS, 1


class Bands:
    """Cuts signatures into bands, and hashes each.

    Args:
        threshold: Similarity from which pairs shall be found, above 0 to 1.
    """

    def __init__(self, threshold: float) -> None:
        self.number, self._rows = choose_bands(threshold)
        generator = np.random.default_rng(0)
        self._odd = generator.integers(0, 2**63, self._rows, dtype=np.uint64) * np.uint64(2)
        self._odd += np.uint64(1)

    def hash(self, signatures: NDArray[np.uint32]) -> Hashes:
        """Return the hashes of signatures, ``(..., 128)``, as ``(..., bands)``."""
        cut = signatures[..., : self.number * self._rows].astype(np.uint64)
        mixed = (cut.reshape(*cut.shape[:-1], self.number, self._rows) + np.uint64(1)) * self._odd
        mixed ^= mixed >> np.uint64(29)
        summed = mixed.sum(axis=-1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        hashes: Hashes = (summed >> np.uint64(32)).astype(np.uint32)
        return hashes


class NearIndex:
    """Finds earlier texts whose signature agrees with one in at least one band.

    Each band has a hash table of its own: the newest text of a slot, and for each text the one
    before it. Numpy arrays of four bytes hold them: 0.27 kB a text at a threshold of 0.8, where
    `datasketch.MinHashLSH`, whose tables are dictionaries, takes 3.2 kB.

    Args:
        threshold: Similarity from which pairs shall be found, above 0 to 1.
    """

    def __init__(self, threshold: float) -> None:
        self._cut = Bands(threshold)
        self._bands = self._cut.number
        self._each = np.arange(self._bands)
        self._size = 0
        self._places = np.zeros(0, dtype=np.int64)
        self._hashes = np.zeros((0, self._bands), dtype=np.uint32)
        self._grow(1024)

    def __len__(self) -> int:
        return self._size

    def walk(
        self, signed: Iterable[tuple[NDArray[np.int64], NDArray[np.uint32]]]
    ) -> Iterator[tuple[int, NDArray[np.uint32]]]:
        """Yield texts one by one, with what `query` and `add` take.

        Args:
            signed: Places ``(n,)`` and signatures ``(n, 128)``, a piece at a time.
        """
        for places, signatures in signed:
            yield from zip(places.tolist(), signatures, strict=True)

    def add(self, place: int, signature: NDArray[np.uint32]) -> None:
        """Put a text into the index.

        Args:
            place: Number that `query` shall return for it.
            signature: Its signature, ``(128,)``.
        """
        if self._size == len(self._places):
            self._grow(2 * self._size)
        hashes = self._cut.hash(signature)
        slots = hashes & np.uint32(len(self._places) - 1)
        self._places[self._size] = place
        self._hashes[self._size] = hashes
        self._before[self._size] = self._newest[self._each, slots]
        self._newest[self._each, slots] = self._size
        self._size += 1

    def query(self, signature: NDArray[np.uint32]) -> list[int]:
        """Return the places of texts that may be alike, in rising order.

        Args:
            signature: The signature to look for, ``(128,)``.

        Returns:
            Places, none twice; of each band at most the 64 newest with its hash. Others that
            share a slot of the table do not count: which there are depends on its size.
        """
        hashes = self._cut.hash(signature)
        at = self._newest[self._each, hashes & np.uint32(len(self._places) - 1)]
        bands, left = self._each, np.full(self._bands, LONGEST_CHAIN)
        found: set[int] = set()
        while True:
            there = (at >= 0) & (left > 0)
            if not there.any():
                break
            bands, at, left = bands[there], at[there], left[there]
            equal = self._hashes[at, bands] == hashes[bands]
            found.update(at[equal].tolist())
            left -= equal
            at = self._before[at, bands]
        return sorted(int(self._places[row]) for row in found)

    def _grow(self, capacity: int) -> None:
        """Make room for `capacity` texts (a power of two), and chain those that are there anew."""
        kept, bands = self._size, self._bands
        places = np.zeros(capacity, dtype=np.int64)
        hashes = np.zeros((capacity, bands), dtype=np.uint32)
        if kept:
            places[:kept], hashes[:kept] = self._places[:kept], self._hashes[:kept]
        self._places, self._hashes = places, hashes
        self._before = np.full((capacity, bands), -1, dtype=np.int32)
        self._newest = np.full((bands, capacity), -1, dtype=np.int32)
        for band in range(bands if kept else 0):
            slots = hashes[:kept, band] & np.uint32(capacity - 1)
            order = np.argsort(slots, kind="stable")
            same = slots[order[1:]] == slots[order[:-1]]
            self._before[order[1:][same], band] = order[:-1][same]
            self._newest[band, slots[order]] = order
