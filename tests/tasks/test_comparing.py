"""What tells one comparison from another."""

from __future__ import annotations

from retune.digests import digest_json
from retune.trials.space import read_axes
from tasks.comparing import identify_sweep


def test_a_logarithmic_search_does_not_go_on_from_a_plain_one() -> None:
    """Ends, names and recipes are the same; the points that are drawn are not."""
    rate = "training.learning_rate=1e-4..1e-2"
    plain, logarithmic = (read_axes([], [text]) for text in (rate, f"{rate}:log"))
    found = [digest_json(identify_sweep([], "random", axes)) for axes in (plain, logarithmic)]
    assert found[0] != found[1]
    assert found[0] == digest_json(identify_sweep([], "random", read_axes([], [rate])))
