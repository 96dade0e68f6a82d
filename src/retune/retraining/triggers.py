"""What makes a training worth it: each trigger answers by itself, and one is enough.

None of them loads a model: they read the champion's manifest, the model's ledger, and rows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from retune.recipe.sections import NewRowsConfig
from retune.registry.aliases.standing import ModelStanding
from retune.registry.records import LedgerEntry, VersionManifest
from retune.retraining.clock import DAY, read_moment, say_span
from retune.retraining.findings import TriggerFinding


def judge_start(
    model_name: str, *, schedule: bool, force: bool, again: bool, champion: int | None
) -> tuple[TriggerFinding, ...]:
    """Answer what every start knows by itself: who asked, and whether there is a champion.

    Args:
        model_name: The registered model.
        schedule: Whether the recipe wants every start to retrain.
        force: Whether a person wants it whatever the triggers say.
        again: Whether the same flow run was started before: what was worth it then still is.
        champion: Version of the champion; None where there is none.

    Returns:
        A finding for each that fires; none where none does.
    """
    reasons = {
        "by_hand": "asked for by hand" if force else "",
        "under_way": "this flow run was under way before, and goes on" if again else "",
        "schedule": "every start retrains" if schedule else "",
        "no_champion": ""
        if champion
        else f"{model_name} has no champion yet: a first one is always worth it",
    }
    return tuple(
        TriggerFinding(trigger=name, fires=True, reason=reason)
        for name, reason in reasons.items()
        if reason
    )


def judge_age(
    max_age_days: float, champion: int, since: LedgerEntry | None, at: datetime
) -> TriggerFinding:
    """Answer the trigger `max_age_days`.

    Args:
        max_age_days: Age from which the champion is trained anew.
        champion: Its version.
        since: The ledger's line that made it champion; None where it has none.
        at: The time that it is.
    """
    if since is None:
        reason = f"version {champion} became champion by no line of the ledger: its age is unknown"
        return TriggerFinding(trigger="max_age_days", fires=False, reason=reason)
    age = at - read_moment(since.at)
    old = age / DAY >= max_age_days
    told = (
        f"has been champion for {say_span(age)}"
        if age >= timedelta()
        else f"becomes champion {say_span(-age)} after this start by the ledger"
    )
    reason = (
        f"version {champion} {told}, {'at least' if old else 'less than'} max_age_days "
        f"{max_age_days:g}"
    )
    return TriggerFinding(
        trigger="max_age_days", fires=old, reason=reason, figures={"age_days": age / DAY}
    )


def find_equal_version(
    sources: Collection[str], manifests: Sequence[VersionManifest]
) -> VersionManifest | None:
    """Return the version that was made of just these sources, so that no row need be read.

    Args:
        sources: Content digests of the recipe's sources of rows.
        manifests: Of the versions that are asked about.
    """
    wanted = set(sources)
    return next((each for each in manifests if wanted <= set(each.sources.values())), None)


def judge_equal_sources(version: VersionManifest, champion: int | None) -> TriggerFinding:
    """Answer the trigger `new_rows` where the sources are those of a version.

    Args:
        version: The manifest of that version.
        champion: Version of the champion.
    """
    decided = "" if version.version == champion else ", which was decided on already"
    reason = f"every source is one of version {version.version}{decided}: no row is new"
    return TriggerFinding(trigger="new_rows", fires=False, reason=reason, figures={"new_rows": 0.0})


def find_tried(standing: ModelStanding, entries: Sequence[LedgerEntry]) -> int | None:
    """Return the last challenger that was decided on against this champion; None for none.

    Its rows are no news: a training on them and a handful more would most likely end as it did,
    and wear out the held-out rows. One that lost to a champion which was taken back since says
    nothing of this one.

    Args:
        standing: Champion and challenger.
        entries: The model's ledger.
    """
    champion, challenger = standing.champion, standing.challenger
    if champion is None or challenger is None:
        return None
    decided = any(
        each.version == challenger.version and each.opponent == champion.digest for each in entries
    )
    return challenger.version if decided else None


def judge_new_rows(
    config: NewRowsConfig,
    champion: int,
    known: Collection[str],
    present: Collection[str],
    *,
    tried: tuple[int, Collection[str]] | None = None,
) -> TriggerFinding:
    """Answer the trigger `new_rows` by the contents of rows.

    Args:
        config: How many are enough.
        champion: Version of the champion.
        known: Content digests of the champion's rows, on all sides.
        present: Content digests of the rows that are there now; a repeated one counts once.
        tried: Version and content digests of the rows of the challenger of `find_tried`.
    """
    before, (version, others) = set(known), tried or (0, ())
    new, had = len(set(present) - before - set(others)), len(before)
    wanted = [float(config.rows)] if config.rows is not None else []
    if config.share is not None:
        wanted.append(config.share * had)
    enough = min(wanted)
    fires = new > 0 and new >= enough
    reason = (
        f"{new:,} rows are not among the {had:,} of version {champion}"
        f"{f' or those of version {version}, which was decided on already' if tried else ''}, "
        f"{'at least' if fires else 'fewer than'} the {max(enough, 1):,.0f} that are enough"
    )
    figures = {"new_rows": float(new), "champion_rows": float(had), "enough": enough}
    return TriggerFinding(trigger="new_rows", fires=fires, reason=reason, figures=figures)


def judge_unknown_rows(champion: int) -> TriggerFinding:
    """Answer the trigger `new_rows` where nothing says what the champion was trained from.

    Args:
        champion: Its version.
    """
    reason = (
        f"version {champion} has no manifest, so nothing says which rows it has seen: retrain once "
        "by hand (--force)"
    )
    return TriggerFinding(trigger="new_rows", fires=False, reason=reason)
