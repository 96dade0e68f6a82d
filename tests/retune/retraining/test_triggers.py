"""Triggers and bounds, by manifests and ledgers that are made by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from prefect.runtime import flow_run

from retune.errors import ArtifactError
from retune.recipe.sections import NewRowsConfig, RetrainConfig
from retune.registry.aliases.standing import ModelStanding, NamedVersion
from retune.registry.records import LedgerEntry, VersionManifest
from retune.retraining.bounds import judge_cost, judge_rhythm, list_trainings
from retune.retraining.clock import DAY, as_utc, read_moment, write_moment
from retune.retraining.findings import Assessment, BoundFinding, TriggerFinding
from retune.retraining.telling import list_answers, make_entry, repeats_last
from retune.retraining.triggers import (
    find_equal_version,
    find_tried,
    judge_age,
    judge_equal_sources,
    judge_new_rows,
    judge_start,
)

NOW = datetime(2026, 11, 26, 3, tzinfo=UTC)


def line(kind: Any, days_ago: float, **given: Any) -> LedgerEntry:
    """Return a line of a ledger, so many days old."""
    at = write_moment(NOW - timedelta(days=days_ago))
    known = {"number": 1, "model_name": "m", "actor": "gate", "reason": "because", "decision": "d"}
    return LedgerEntry(**known | {"at": at, "kind": kind, **given})


def manifest(version: int, *digests: str) -> VersionManifest:
    """Return a manifest of which only its version and sources count."""
    sources = {f"data.train.{place}": each for place, each in enumerate(digests)}
    return VersionManifest.model_construct(version=version, sources=sources)


def start(**given: Any) -> list[str]:
    """Return which findings of a start fire, nothing being asked for unless given."""
    known = {"schedule": False, "force": False, "again": False, "champion": 3}
    return [each.trigger for each in judge_start("m", **known | given) if each.fires]


def test_a_start_alone_is_no_reason_and_each_other_one_is() -> None:
    """A person, a schedule that says so, a run that goes on, and a model without a champion."""
    assert start() == []
    assert start(force=True) == ["by_hand"]
    assert start(schedule=True) == ["schedule"]
    assert start(again=True) == ["under_way"]
    assert start(champion=None) == ["no_champion"]


@pytest.mark.parametrize(
    ("config", "present", "fires"),
    [
        # Ten rows are known. Two new ones are 20 %.
        ({"rows": 2}, 12, True),
        ({"rows": 3}, 12, False),
        ({"share": 0.2}, 12, True),
        ({"share": 0.3}, 12, False),
        # Either of the two is enough.
        ({"rows": 3, "share": 0.2}, 12, True),
        # A share of next to nothing still wants one row.
        ({"share": 1e-9}, 10, False),
    ],
)
def test_new_rows_count_by_content(config: dict[str, Any], present: int, fires: bool) -> None:
    """Known rows do not count, and a repeated one counts once."""
    known = {f"row {n}" for n in range(10)}
    there = [f"row {n}" for n in range(present)] * 2
    found = judge_new_rows(NewRowsConfig(**config), 3, known, there)
    assert found.fires is fires
    assert found.figures["new_rows"] == present - 10
    assert found.figures["champion_rows"] == 10


def test_rows_that_went_are_no_new_ones() -> None:
    """Eight of ten known rows are left, and one is new: one new row, whatever the sizes."""
    known = {f"row {n}" for n in range(10)}
    there = {f"row {n}" for n in range(2, 11)}
    found = judge_new_rows(NewRowsConfig(rows=1), 3, known, there)
    assert found.fires and found.figures["new_rows"] == 1


def test_rows_of_a_challenger_that_lost_are_no_news() -> None:
    """Ten are known, twenty were tried and lost; of 23 that are there, three are new."""
    known = {f"row {n}" for n in range(10)}
    tried = (4, {f"row {n}" for n in range(20)})
    there = {f"row {n}" for n in range(23)}
    found = judge_new_rows(NewRowsConfig(rows=4), 3, known, there, tried=tried)
    assert not found.fires and found.figures["new_rows"] == 3
    assert "those of version 4, which was decided on already" in found.reason
    assert judge_new_rows(NewRowsConfig(rows=3), 3, known, there, tried=tried).fires
    assert judge_new_rows(NewRowsConfig(rows=4), 3, known, there).fires


@pytest.mark.parametrize(("opponent", "found"), [("champion", 2), ("one taken back", None)])
def test_what_lost_to_another_champion_says_nothing(opponent: str, found: int | None) -> None:
    """After a rollback the challenger of before was never compared with the champion of now."""
    named = {
        name: NamedVersion(version=number, digest=name, approval="")
        for number, name in enumerate(("champion", "challenger"), 1)
    }
    standing = ModelStanding(model_name="m", previous=None, since=None, note="", **named)
    lost = make_entry("rejected", "m", "", NOW, champion=1)
    lost = lost.model_copy(update={"version": 2, "opponent": opponent})
    assert find_tried(standing, [lost]) == found


def test_sources_of_a_version_need_not_be_read() -> None:
    """By content and whatever they are called; those of a rejected challenger were decided on."""
    versions = [manifest(3, "a"), manifest(4, "a", "b")]
    assert find_equal_version(["c", "a"], versions) is None
    champion = find_equal_version(["a"], versions)
    challenger = find_equal_version(["b", "a"], versions)
    assert champion is versions[0] and challenger is versions[1]
    assert "decided on already" not in judge_equal_sources(champion, 3).reason
    found = judge_equal_sources(challenger, 3)
    assert not found.fires and "version 4, which was decided on already" in found.reason


def test_a_moment_is_pythons_own_in_utc() -> None:
    """Prefect's are of another class; one without a time zone is in UTC."""
    brasilia = timezone(timedelta(hours=-3))
    assert as_utc(datetime(2026, 11, 26, 0, 0, 0, 500, brasilia)) == NOW
    assert as_utc(datetime(2026, 11, 26, 3)) == NOW
    planned = as_utc(flow_run.scheduled_start_time)
    assert type(planned) is datetime
    assert judge_age(1, 3, line("promoted", 0, to_version=3), planned + 2 * DAY).figures
    with pytest.raises(ArtifactError, match="ISO 8601"):
        read_moment("yesterday")


def test_age_counts_from_the_line_that_made_it_champion() -> None:
    """Promoted 40 days ago it is old, and brought back five days ago it is not."""
    old = judge_age(30, 3, line("promoted", 40, to_version=3), NOW)
    assert old.fires and old.figures["age_days"] == 40 and "40.0 days" in old.reason
    back = judge_age(30, 3, line("rolled_back", 5, to_version=3), NOW)
    assert not back.fires and back.figures["age_days"] == 5
    ahead = judge_age(30, 3, line("promoted", -3, to_version=3), NOW)
    assert not ahead.fires and "3.0 days after this start" in ahead.reason


def test_a_number_that_no_calendar_has_is_never_reached() -> None:
    """Ten million years: the champion is younger, and the last training not so long ago."""
    assert not judge_age(4e9, 3, line("promoted", 40, to_version=3), NOW).fires
    (held,) = judge_rhythm(RetrainConfig(cooldown_hours=1e11), [line("rejected", 9)], NOW)
    assert held.holds_back


def test_a_champion_that_no_line_names_has_no_age() -> None:
    """An alias that was set in MLflow: nothing is concluded, and it is said."""
    found = judge_age(30, 3, None, NOW)
    assert not found.fires and "unknown" in found.reason


def test_trainings_are_counted_once_each() -> None:
    """What a person does with a version later is no training; a failed one is, a skip is not."""
    entries = [
        line("rejected", 9, version=1),
        line("promoted", 8, version=1, actor="ana", decision=""),
        line("failed", 3, decision=""),
        line("skipped", 2, decision=""),
        line("pending", 1.5, version=2),
        line("promoted", 1, version=2, actor="ana"),
        line("rolled_back", 0.5, decision=""),
    ]
    assert list_trainings(entries) == [NOW - timedelta(days=days) for days in (9, 3, 1.5)]


def test_cooldown_and_number_per_week_hold_back() -> None:
    """Trained one and three days ago: under 36 hours, and two in seven days; not nine days ago."""
    entries = [line("rejected", days, version=version) for version, days in enumerate((9, 3, 1))]
    held = judge_rhythm(RetrainConfig(cooldown_hours=36, max_per_week=2), entries, NOW)
    assert [each.holds_back for each in held] == [True, True]
    assert "24.0 hours ago" in held[0].reason and held[1].figures["trained_this_week"] == 2
    free = judge_rhythm(RetrainConfig(cooldown_hours=24, max_per_week=3), entries, NOW)
    assert [each.holds_back for each in free] == [False, False]
    assert judge_rhythm(RetrainConfig(cooldown_hours=36), [], NOW) == ()


def test_a_line_of_another_time_holds_back_only_what_is_near_it() -> None:
    """Trained two hours after the planned start; and ten years ahead, by a start with another time.

    36 hours of cooldown hold the first back and not the second; nor does one a week.
    """
    config = RetrainConfig(cooldown_hours=36, max_per_week=1)
    near = judge_rhythm(config, [line("rejected", -2 / 24)], NOW)
    assert [each.holds_back for each in near] == [True, True]
    assert "2.0 hours after this start" in near[0].reason
    far = judge_rhythm(config, [line("rejected", -3650)], NOW)
    assert [each.holds_back for each in far] == [False, False]


def test_cost_is_bounded_by_the_estimate() -> None:
    """Two hours at 3 USD an hour are 6 USD."""
    config = RetrainConfig(max_hours=2.5, max_cost=5)
    hours, cost = judge_cost(config, 7200.0, 3.0, "USD")
    assert not hours.holds_back and hours.figures == {"max_hours": 2.0}
    assert cost.holds_back and "6 USD, more than max_cost 5" in cost.reason


def test_a_training_that_cannot_be_timed_does_not_start_under_a_bound() -> None:
    """Nothing says that it is within; the message names the key."""
    (hours,) = judge_cost(RetrainConfig(max_hours=1), None, None, "USD")
    assert hours.holds_back and "retrain.max_hours" in hours.reason
    assert judge_cost(RetrainConfig(), None, None, "USD") == ()


def assessment(fires: bool, *, held: bool = False, reason: str = "rows") -> Assessment:
    """Return what one trigger and one bound said."""
    trigger = TriggerFinding(trigger="new_rows", fires=fires, reason=reason)
    bound = BoundFinding(bound="cooldown_hours", holds_back=held, reason="too early")
    return Assessment(triggers=(trigger,), bounds=(bound,))


def test_a_bound_wins_over_triggers_and_both_are_told() -> None:
    """Worth it and too early is not worth it now."""
    assert assessment(True).worth_it and assessment(True).reason == "rows"
    held = assessment(True, held=True)
    assert not held.worth_it and held.reason == "held back: too early (worth it: rows)"
    assert not assessment(False).worth_it
    assert "no trigger is set" in Assessment(triggers=()).reason


def test_a_skip_for_the_same_causes_is_one_line() -> None:
    """Figures in its words may move from hour to hour; another cause is another line."""

    def skipped(found: Assessment) -> LedgerEntry:
        answers = list_answers(found)
        return make_entry("skipped", "m", found.reason, NOW, champion=3, figures=answers)

    first = skipped(assessment(False, reason="12 rows"))
    assert repeats_last(skipped(assessment(False, reason="13 rows")), [first])
    assert not repeats_last(skipped(assessment(True, held=True)), [first])
    assert not repeats_last(first, [first, line("promoted", 0)])
    assert repeats_last(first, [first, line("refused", 0)])
    assert not repeats_last(first, [])
