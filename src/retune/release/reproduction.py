"""A version made again: is it equal, and if not, from which stage on and how far off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from retune.errors import ArtifactError, DataError
from retune.inputs import Inputs
from retune.records import Record
from retune.registry.records import VersionManifest
from retune.release.manifest import list_libraries, list_sources, read_artifacts
from retune.spine.provenance import machine_provenance
from retune.spine.store import Manifest, Store
from retune.watching import StageLine
from retune.weights.differences import largest_difference

_RELEASES = ("merge_adapter", "bundle_adapter")


class StageOutcome(Record):
    """What became of one stage."""

    label: str
    equal: bool
    """Whether it made the same content."""
    same_question: bool
    """Whether it was given the same: inputs, settings and libraries."""


class FigurePair(Record):
    """A figure as it was, and as it is now."""

    name: str
    """Stage and figure, such as ``score_sql (merged).sql_execution_match``."""
    then: float | None
    now: float | None


class Reproduction(Record):
    """What came of making a version again."""

    model_name: str
    version: int
    equal: bool
    """Whether the released model and every stage are the same, digest by digest."""
    stages: tuple[StageOutcome, ...]
    differs_from: str | None
    """The first stage that made something else; None where none did."""
    figures: tuple[FigurePair, ...] = ()
    """Figures that differ, of those that are still stored."""
    largest_weight_difference: float | None = None
    """Of the released models, in units of the weights; None where they are equal, or the first one
    is no longer stored."""
    notes: tuple[str, ...] = Field(default=())
    """Libraries and machine that are not those of then."""
    store: Path | None
    """Where the stages lie; None where they were in a temporary folder, which is gone."""


def refuse_changed_sources(manifest: VersionManifest, inputs: Inputs) -> None:
    """Refuse to make a version again from other files than it was made of.

    Args:
        manifest: Of the version.
        inputs: What its recipe names, as it is now.

    Raises:
        DataError: A source, or the base, has another content; the message names each.
    """
    now = list_sources(inputs)
    changed = [
        f"{name} {'has changed' if name in now else 'is no longer named'}"
        for name, digest in manifest.sources.items()
        if now.get(name) != digest
    ]
    if inputs.base.digest != manifest.base:
        changed.append(f"{manifest.base_name} (the base) has changed")
    if changed:
        raise DataError(
            f"{manifest.model_name} version {manifest.version} cannot be made again: "
            f"{'; '.join(changed)} since {manifest.made_at}. Put back what it was made of (its "
            "manifest has the digests), or run the recipe on what there is now."
        )


def name_differences(manifest: VersionManifest) -> tuple[str, ...]:
    """Say in which machine and code this differs from where a version was made."""
    now = {name: str(value) for name, value in machine_provenance().items()}
    was = {**manifest.machine, "commit": str(manifest.commit)}
    return tuple(
        f"{name}: {was[name]} then, {now[name]} now"
        for name in sorted(was.keys() & now.keys())
        if was[name] != now[name]
    )


def compare_runs(
    manifest: VersionManifest,
    lines: Sequence[StageLine],
    store: Store,
    original: Store,
    *,
    kept: bool,
) -> Reproduction:
    """Compare what was made again with what a manifest says of the first time.

    Args:
        manifest: Of the version.
        lines: The stages that were run again, in order.
        store: Where their artifacts are.
        original: The store of the first time; what is no longer there is not compared.
        kept: Whether `store` stays.

    Returns:
        The comparison.
    """
    now = read_artifacts(lines, store)
    stages = tuple(
        StageOutcome(
            label=label,
            equal=str(each.record["digest"]) == manifest.digests[label],
            same_question=each.key == manifest.stages[label],
        )
        for label, each in now.items()
        if label in manifest.digests
    )
    differing = [each.label for each in stages if not each.equal]
    release = next((each for name, each in now.items() if name in _RELEASES), None)
    equal = release is not None and release.record["digest"] == manifest.released
    then = {label: _read(original, label, manifest) for label in differing}
    libraries = list_libraries(now)
    return Reproduction(
        model_name=manifest.model_name,
        version=int(manifest.version or 0),
        equal=equal and not differing,
        stages=stages,
        differs_from=differing[0] if differing else None,
        figures=tuple(f for label in differing for f in _figures(label, then[label], now[label])),
        largest_weight_difference=_weight_difference(release, then, store, original),
        notes=(
            *name_differences(manifest),
            *(
                f"{name}: {manifest.libraries[name]} then, {version} now"
                for name, version in libraries.items()
                if manifest.libraries.get(name, version) != version
            ),
        ),
        store=store.root if kept else None,
    )


def _read(original: Store, label: str, manifest: VersionManifest) -> Manifest | None:
    name, key = label.partition(" (")[0], manifest.stages[label]
    try:
        return original.manifest(name, key)
    except ArtifactError:
        return None


def _figures(label: str, then: Manifest | None, now: Manifest) -> Iterator[FigurePair]:
    """Yield the figures of a stage that are not what they were."""
    if then is None:
        return
    before, after = (dict(_flat_figures(each.record)) for each in (then, now))
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield FigurePair(name=f"{label}.{name}", then=before.get(name), now=after.get(name))


def _flat_figures(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in record.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield name, float(value)
    for name, metric in (record.get("metrics") or {}).items():
        if metric["value"] is not None:
            yield name, float(metric["value"])


def _weight_difference(
    release: Manifest | None, then: Mapping[str, Manifest | None], store: Store, original: Store
) -> float | None:
    before = then.get(release.stage) if release is not None else None
    if release is None or before is None:
        return None
    folders = (each.folder(m.stage, m.key) for each, m in ((original, before), (store, release)))
    return largest_difference(*folders)
