"""What a training cannot do with these rows or on this device, said before a model is loaded."""

from __future__ import annotations

import shutil

from retune.data.tables import count_rows
from retune.errors import ConfigError, DataError
from retune.recipe.sections import TrainingConfig
from retune.records import SideRef

COMPILERS = ("cc", "gcc", "clang")


def refuse_unfit_training(training: TrainingConfig, quantization: str, validation: SideRef) -> None:
    """Refuse what would fail, or measure nothing, after the model was loaded.

    Args:
        training: The recipe's section.
        quantization: Form of the base.
        validation: Rows that evaluations use.

    Raises:
        ConfigError: torch_compile cannot work here.
        DataError: There is nothing to evaluate on.
    """
    if training.evaluations and not count_rows(validation.folder / "rows.parquet"):
        what = "early stopping watches" if training.early_stopping else "evaluations measure"
        raise DataError(
            f"the validation side has no rows, and {what} the model on it. Raise "
            "split.validation_fraction, or write training.evaluations: 0 and "
            "training.early_stopping: null."
        )
    if not training.torch_compile:
        return
    if quantization != "none":
        raise ConfigError(
            "training.torch_compile: a quantized base is not compiled (its kernels are not "
            "torch's). Write torch_compile: false, or quantization.kind: none."
        )
    if not any(map(shutil.which, COMPILERS)):
        raise ConfigError(
            f"training.torch_compile needs a C compiler, and none of {', '.join(COMPILERS)} is on "
            "the path. Install one, or write torch_compile: false."
        )
