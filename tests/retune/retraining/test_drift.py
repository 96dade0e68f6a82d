"""What is made of the indices: whether the trigger fires, why, and the page on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from retune.errors import ScoringError
from retune.inference.token_losses import RowLoss
from retune.recipe.sections.retrain import DriftConfig
from retune.retraining.drift import judge_drift, judge_no_requests, judge_too_few
from retune.retraining.drift_page import write_drift_page
from retune.retraining.drift_records import (
    Bin,
    DriftIndex,
    DriftReport,
    PromptLosses,
    RequestsRef,
)
from retune.retraining.known_rows import KnownRow
from retune.retraining.prompt_losses import compare_losses

CONFIG = DriftConfig(log=Path("logs/*.jsonl"))


def make_index(value: float, chance: float, name: str = "prompt_tokens") -> DriftIndex:
    bins = (
        Bin(label="up to 10", rows=0.5, requests=0.25),
        Bin(label=" |", rows=0.5, requests=0.75),
    )
    label = name.replace("_", " ")
    return DriftIndex(name=name, label=label, value=value, chance=chance, requests=350, bins=bins)


def make_report(*indices: DriftIndex) -> DriftReport:
    return DriftReport(
        digest="d",
        folder=Path(),
        requests=350,
        unwritten=0,
        rows=900,
        level=0.0125,
        indices=indices,
    )


def make_losses(rise: float, chance: float, index: DriftIndex) -> PromptLosses:
    return PromptLosses(
        digest="l",
        folder=Path(),
        requests=350,
        rows=900,
        unscored=0,
        requests_loss=2.0 + rise,
        rows_loss=2.0,
        chance=chance,
        index=index,
    )


def read(rows: int = 350, bad_lines: int = 0) -> RequestsRef:
    return RequestsRef(digest="r", folder=Path(), rows=rows, bad_lines=bad_lines)


@pytest.mark.parametrize(
    ("value", "chance", "fires"),
    [
        (0.41, 0.06, True),
        (0.2, 0.06, True),  # from there on
        (0.19, 0.06, False),  # more than chance, and little
        (0.41, 0.41, False),  # much, and no more than chance
        (0.41, 0.5, False),
    ],
)
def test_an_index_has_to_be_large_and_more_than_chance(
    value: float, chance: float, fires: bool
) -> None:
    """Either alone is no reason."""
    finding = judge_drift(CONFIG, read(), make_report(make_index(value, chance)))
    assert (finding.trigger, finding.fires) == ("drift", fires)
    assert f"prompt tokens: PSI {value:.2f}, chance gives up to {chance:.2f}" in finding.reason
    assert finding.figures["prompt_tokens"] == value
    assert finding.figures["prompt_tokens.chance"] == chance


def test_all_that_drifted_is_named_and_bad_lines_are_told() -> None:
    """In words that stand by themselves."""
    report = make_report(
        make_index(0.41, 0.06), make_index(0.1, 0.06, "tokens"), make_index(0.3, 0.1, "classes")
    )
    assert judge_drift(CONFIG, read(bad_lines=12), report).reason == (
        "prompt tokens: PSI 0.41, chance gives up to 0.06 for 350 requests; classes: PSI 0.30, "
        "chance gives up to 0.10 for 350 requests (12 of 362 lines of the log cannot be read)"
    )


def test_where_nothing_drifted_the_nearest_index_is_told() -> None:
    """That has least to go until it fires: 0.15 is three quarters of 0.2, 0.3 half of 0.6."""
    report = make_report(make_index(0.3, 0.6), make_index(0.15, 0.06, "tokens"))
    assert judge_drift(CONFIG, read(), report).reason == (
        "350 requests are like the training rows: tokens: PSI 0.15, chance gives up to 0.06 for "
        "350 requests, and 0.2 counts as drifted"
    )


@pytest.mark.parametrize(
    ("rise", "chance", "index", "fires"),
    [
        (0.5, 0.1, make_index(0.4, 0.1), True),
        (0.05, 0.1, make_index(0.4, 0.1), False),  # no more surprised than by chance
        (-0.5, 0.1, make_index(0.4, 0.1), False),  # less surprised
        (0.5, 0.1, make_index(0.1, 0.05), False),  # so many requests show any difference
    ],
)
def test_a_surprised_champion_is_a_reason(
    rise: float, chance: float, index: DriftIndex, fires: bool
) -> None:
    """By more than chance gives, and so much that its losses are distributed otherwise."""
    calm = make_report(make_index(0.01, 0.05))
    finding = judge_drift(CONFIG, read(), calm, make_losses(rise, chance, index))
    assert finding.fires == fires
    assert finding.figures["prompt_loss_rise"] == pytest.approx(rise)
    assert ("the champion's loss on prompts: 2.50 nats per token" in finding.reason) == fires


def test_too_few_requests_are_no_drift() -> None:
    """It says how many there are and how many it takes; none is no error either."""
    assert judge_too_few(CONFIG, read(rows=38), 36).reason == (
        "36 requests in logs/*.jsonl, and 2 more that the chat template cannot write, fewer than "
        "min_rows 200"
    )
    assert judge_drift(CONFIG, read(rows=9), make_report()).fires is False
    none = judge_no_requests(CONFIG)
    assert not none.fires and none.reason == "no requests yet: nothing is logged in logs/*.jsonl"


def compare(known: list[float], served: list[float | None], **changes: Any) -> PromptLosses:
    """Compare prompts of ten tokens each, by their loss per token."""
    losses = [
        [None if each is None else RowLoss(10 * each, 10) for each in side]
        for side in (known, served)
    ]
    rows = [KnownRow("", None, None)] * len(known)
    return compare_losses(rows, *losses, level=0.01, seed=7)


def test_losses_are_weighed_by_tokens() -> None:
    """3 nats over 1 token and 3 over 3: 6 / 4 = 1.5, not (3 + 1) / 2."""
    rows = [KnownRow("", None, None)] * 2
    found = compare_losses(
        rows, [RowLoss(3.0, 1), RowLoss(3.0, 3)], [RowLoss(8.0, 4), None], level=0.01, seed=7
    )
    assert (found.rows_loss, found.requests_loss) == (1.5, 2.0)
    assert (found.rows, found.requests, found.unscored) == (2, 1, 1)


def test_higher_losses_are_above_chance_and_the_same_ones_are_not() -> None:
    """300 prompts of losses 1.0 to 3.99, and the same again or one nat higher."""
    known = [1.0 + at / 100 for at in range(300)]
    same = compare(known, list(known))
    assert same.requests_loss == same.rows_loss and same.index.value == 0.0
    higher = compare(known, [each + 1.0 for each in known])
    assert higher.requests_loss - higher.rows_loss > higher.chance > 0.0
    assert higher.index.value > max(0.2, higher.index.chance)


def test_without_a_token_to_score_losses_cannot_be_compared() -> None:
    """It says what to do."""
    with pytest.raises(ScoringError, match=r"1 known prompts and 0 requests.*drift\.loss to f"):
        compare([1.0], [None])


def test_the_page_shows_both_sides_of_each_bin(tmp_path: Path) -> None:
    """Shares as figures and as bars, the widest of 20 signs; a token is shown as it is written.

    (0.75 - 0.5) ln 1.5 = 0.101 and (0.25 - 0.5) ln 0.5 = 0.173.
    """
    report = make_report(make_index(0.41, 0.06))
    finding = judge_drift(CONFIG, read(), report)
    losses = make_losses(0.5, 0.1, make_index(0.4, 0.1, "prompt_losses"))
    text = write_drift_page(tmp_path / "new", finding, report, losses).read_text("utf-8")
    assert f"**Drifted**: {finding.reason}." in text
    assert "| prompt tokens | 0.410 | 0.060 | 350 |" in text
    assert f"| up to 10 | 50.0 % | {13 * '█'}▍ | 25.0 % | {6 * '█'}▋ | 0.173 |" in text
    assert f"| `' \\|'` | 50.0 % | {13 * '█'}▍ | 75.0 % | {20 * '█'} | 0.101 |" in text
    assert "2.500 nats per token on the prompts of 350 requests, 2.000 on 900" in text
