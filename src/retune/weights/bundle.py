"""Putting an adapter that cannot be merged beside its base, in one folder that is whole."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from retune.data.chats.tokenizers import Tokenizer, end_token_ids, load_tokenizer
from retune.data.tables import read_rows
from retune.digests import digest_folder
from retune.errors import StageError
from retune.hard_links import link_or_copy
from retune.inference.loaded_models import SLOT, LoadedModel, load_parts
from retune.model_records import BaseRef, MergedRef, StagePlace, locate_bundle
from retune.modeling.devices import choose_device
from retune.modeling.placement import StagePlaces
from retune.modeling.snapshots import WEIGHT_PATTERNS
from retune.records import LOG_FOLDER
from retune.spine.stage import Workdir
from retune.spine.store import MANIFEST
from retune.weights.equivalence import Answers, Difference, compare_outputs, evaluate_outputs
from retune.weights.stages import BundleSettings, MergeInputs

_CONFIGS = ("config.json", "generation_config.json")
_ROUNDING = 1e-4
"""Largest difference, as a share of the logits' spread: nothing is rounded on the way, and only a
device that adds up in another order makes one at all."""


def bundle_adapter(inputs: MergeInputs, settings: BundleSettings, work: Workdir) -> MergedRef:
    """Put the unquantized base and the adapter into one folder, load it and compare.

    ``weights/`` is a snapshot of the base, with the tokenizer and template in use; ``adapter/`` is
    what was trained. What the adapter says over the base is the reference, as in merging: an
    adapter that was trained over quantized weights is released over unquantized ones.

    Args:
        inputs: Adapter, base, rows, and the chat template that is saved with the tokenizer.
        settings: How many rows are compared.
        work: The folders go to its artifact.

    Returns:
        The bundle and how far it is from the adapter over its base.

    Raises:
        StageError: The bundle says something else.
    """
    SLOT.clear()
    rows = read_rows(inputs.rows.folder / "rows.parquet")[: settings.check_rows]
    tokenizer = load_tokenizer(inputs.base.folder, inputs.template)
    end_ids = end_token_ids(tokenizer, inputs.base.folder)
    place = StagePlaces.read(work.context).of("bundle_adapter")
    # A model that is read anew for each token writes none.
    answers: Answers = "likeliest" if place.placement == "offloaded" else "written"
    trained = _load(inputs.base.folder, inputs.adapter.folder, tokenizer, end_ids, place)
    before = evaluate_outputs(trained, rows, answers=answers)
    del trained
    # Two models of this size need not be held at once.
    SLOT.clear()
    weights, adapter = locate_bundle(work.artifact)
    _write_weights(inputs.base, tokenizer, weights)
    _write_adapter(inputs.adapter.folder, adapter)
    tokenizer = load_tokenizer(weights)
    released = _load(weights, adapter, tokenizer, end_token_ids(tokenizer, weights), place)
    difference = compare_outputs(before, evaluate_outputs(released, rows, answers=answers))
    _refuse_difference(difference)
    bundle = MergedRef(
        digest=digest_folder(work.artifact),
        folder=work.artifact,
        bundled=True,
        **difference.figures(),
    )
    # It is scored without loading it once more.
    SLOT.keep(bundle.as_scored(), released)
    return bundle


def _load(
    weights: Path, adapter: Path, tokenizer: Tokenizer, end_ids: list[int], place: StagePlace
) -> LoadedModel:
    return load_parts(
        weights,
        adapter,
        tokenizer=tokenizer,
        end_ids=end_ids,
        dtype=torch.float32,
        device=choose_device(),
        place=place,
    )


def _write_weights(base: BaseRef, tokenizer: Tokenizer, target: Path) -> None:
    target.mkdir()
    for pattern in WEIGHT_PATTERNS:
        for path in sorted(base.folder.glob(pattern)):
            link_or_copy(path, target / path.name)
    # Copied, since a library may write such a file in place, and a link would change the base.
    for name in _CONFIGS:
        if (base.folder / name).is_file():
            shutil.copyfile(base.folder / name, target / name)
    tokenizer.save_pretrained(target)


def _write_adapter(source: Path, target: Path) -> None:
    # What a training noted, and the store's own file, are no part of what is released.
    left_out = shutil.ignore_patterns(LOG_FOLDER, MANIFEST)
    shutil.copytree(source, target, ignore=left_out)


def _refuse_difference(difference: Difference) -> None:
    rows = difference.rows_checked
    if difference.within(_ROUNDING) and difference.answers_equal == rows:
        return
    raise StageError(
        f"bundle_adapter: loaded again, base and adapter say something else than before: their "
        f"logits differ {difference}, expected at most {_ROUNDING:.2%}; "
        f"{difference.answers_equal} of {rows} answers are equal. Nothing was released. A weight "
        "of the adapter was lost in saving; if it stays so, report it with the method's settings."
    )
