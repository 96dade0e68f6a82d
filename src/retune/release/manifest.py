"""Gathering a version's manifest from what a finished run left: records, stage lines, artifacts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retune.data.parts.row_history import digest_row_history
from retune.data.parts.splitting import SIDES
from retune.digests import digest_file, digest_json
from retune.inputs import Inputs
from retune.model_records import MergedRef
from retune.recipe.loading import LoadedRecipe
from retune.registry.records import SideRows, VersionManifest
from retune.score_records import GateDecision, RegisteredRef
from retune.spine.provenance import find_constraints
from retune.spine.store import Manifest, Store
from retune.watching import StageLine

_LIBRARY = "library."
_MACHINE = ("machine", "cpus", "python", "retune")
_NO_ROWS = (0, digest_json([]))


@dataclass(frozen=True)
class FinishedRun:
    """What a manifest is gathered from.

    Attributes:
        loaded: The recipe, overrides and variants applied.
        inputs: The files and the model that it names.
        lines: Every stage of the run, in order.
        store: Where their artifacts are.
        adapter_stage: Label of the stage that trained the adapter last.
        merged: The released model.
        decision: What the gate said of it.
        registered: The version that it became.
        started_from: Version whose adapter training went on from; None for the base.
    """

    loaded: LoadedRecipe
    inputs: Inputs
    lines: Sequence[StageLine]
    store: Store
    adapter_stage: str
    merged: MergedRef
    decision: GateDecision
    registered: RegisteredRef
    started_from: int | None = None


def gather_manifest(finished: FinishedRun, rows: Path) -> VersionManifest:
    """Say what a version was made of.

    Args:
        finished: The run that made it, or one whose stages are all reused, which says the same.
        rows: What part each of its rows had, from `write_row_history`.

    Returns:
        The manifest.

    Raises:
        ArtifactError: An artifact of the run is gone.
    """
    recipe = finished.loaded.recipe
    rows_digest, parts = digest_row_history(rows)
    artifacts = read_artifacts(finished.lines, finished.store)
    trained = artifacts[finished.adapter_stage].provenance
    values = recipe.model_dump(mode="json")
    return VersionManifest(
        model_name=finished.registered.model_name,
        version=finished.registered.version,
        made_at=_seconds(artifacts["register_model"].provenance["sealed_at"]),
        released=finished.merged.digest,
        base=finished.inputs.base.digest,
        base_name=recipe.model.id,
        recipe=values,
        recipe_file=finished.loaded.path.name,
        sources=list_sources(finished.inputs),
        sides={
            side: SideRows(rows=count, digest=digest)
            for side in SIDES
            for count, digest in (parts.get(side, _NO_ROWS),)
        },
        rows_digest=rows_digest,
        template=_template_digest(finished.inputs),
        seeds=dict(_find_seeds(values)),
        libraries=list_libraries(artifacts),
        lock_digest=_lock_digest(),
        commit=trained.get("commit"),
        machine={name: str(trained[name]) for name in _MACHINE if name in trained},
        stages={label: each.key for label, each in artifacts.items()},
        digests={label: str(each.record["digest"]) for label, each in artifacts.items()},
        adapter_stage=finished.adapter_stage,
        started_from=finished.started_from,
        decision=finished.decision,
    )


def read_artifacts(lines: Sequence[StageLine], store: Store) -> dict[str, Manifest]:
    """Read the manifest of every stage of a run.

    Args:
        lines: The stages; of two with one label (a champion that reads the rows in its own way)
            the first one counts.
        store: Where their artifacts are.

    Returns:
        Manifests by label.

    Raises:
        ArtifactError: One is gone.
    """
    first: dict[str, StageLine] = {}
    for line in lines:
        first.setdefault(line.label, line)
    return {label: store.manifest(line.name, line.key) for label, line in first.items()}


def list_libraries(artifacts: Mapping[str, Manifest]) -> dict[str, str]:
    """Return the versions of all libraries that stages were computed with, by name."""
    parts = (each.key_parts for each in artifacts.values())
    found = {k.removeprefix(_LIBRARY): v for p in parts for k, v in p.items() if _is_library(k)}
    return dict(sorted(found.items()))


def list_sources(inputs: Inputs) -> dict[str, str]:
    """Return the content digest of all that a recipe names: rows by name, the rest by setting."""
    sources = [row.located.source for row in inputs.rows]
    found = {each.name: each.digest for each in sources}
    others = {
        # Not by its own name, which is where it lies on this machine.
        "data.databases": inputs.databases,
        "probes": inputs.probes,
        "counterfactuals": inputs.counterfactuals,
        "paraphrases": inputs.paraphrases,
        "general_text": inputs.general_text,
        "reference_text": inputs.reference_text,
        "pairs": inputs.pairs,
        "template": inputs.template,
        "training.start_from": inputs.start,
        **inputs.own_metrics,
    }
    return found | {name: each.digest for name, each in others.items() if each is not None}


def _is_library(part: str) -> bool:
    return part.startswith(_LIBRARY)


def _template_digest(inputs: Inputs) -> str:
    # A tokenizer's own template is part of the tokenizer.
    return inputs.template.digest if inputs.template else inputs.base.tokenizer_digest


def _lock_digest() -> str | None:
    path = find_constraints()
    return digest_file(path) if path else None


def _find_seeds(values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, int]]:
    """Yield every seed of a recipe under its dotted name."""
    for name, value in values.items():
        if name == "seed" and value is not None:
            yield ".".join((*path, name)), int(value)
        elif isinstance(value, dict):
            yield from _find_seeds(value, (*path, name))


def _seconds(moment: str) -> str:
    """Cut a moment in ISO 8601 after its seconds, and write UTC as Z."""
    return f"{moment[:19]}Z"
