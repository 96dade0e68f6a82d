"""An adapter beside the weights it belongs to, as an MLflow model of Python code.

The transformers flavour cannot hold it: saving peft's model there reloads with random projections,
and weights alone would answer like the base without a word. So a version has one flavour,
`python_function`, and whoever asks for another gets an error. Nothing is pickled: MLflow keeps the
name of a module that loads the folder, and a copy of this package (some 1.5 MB) that holds it, so
that a machine without retune can serve the version. A process that has imported retune loads the
version with the code that it has.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import retune
from retune.modeling.head_files import read_labels
from retune.records import is_bundle, locate_bundle
from retune.registry.classifier_form import class_signature, name_classes
from retune.registry.forms import Parts
from retune.registry.interface import pin_requirements, text_signature
from retune.registry.writer_form import write_greedily
from retune.spine.store import MANIFEST

if TYPE_CHECKING:
    from mlflow.models import Model as MLmodel

    from retune.inference.loaded_models import LoadedModel

_LOADER = "retune.weights.served_bundle"
_DATA = "data"
_NEEDED_TO_SERVE = (
    "accelerate",
    "bitsandbytes",
    "mlflow",
    "numpy",
    "peft",
    "pydantic",
    "pyyaml",
    "safetensors",
    "scipy",
    "torch",
    "transformers",
)


class BundleForm:
    """A bundle folder; see `ReleaseForm`."""

    def fits(self, release: Path) -> bool:
        """Tell whether an adapter lies beside weights."""
        return is_bundle(release)

    def save(self, release: Path, target: Path, description: MLmodel, example: str) -> None:
        """Write a bundle with the code that loads it."""
        import mlflow.pyfunc

        names_classes = read_labels(locate_bundle(release)[1]) is not None
        mlflow.pyfunc.save_model(
            path=str(target),
            loader_module=_LOADER,
            data_path=str(release),
            code_paths=[str(Path(retune.__file__).parent)],
            mlflow_model=description,
            signature=class_signature() if names_classes else text_signature(),
            input_example=[example],
            pip_requirements=pin_requirements(_NEEDED_TO_SERVE),
        )
        # Of the store that the release lies in, not of the model.
        (target / _DATA / release.name / MANIFEST).unlink(missing_ok=True)

    def locate(self, version: Path) -> Parts | None:
        """Return weights, tokenizer and adapter."""
        folder = next((each for each in _data_folders(version) if is_bundle(each)), None)
        if folder is None:
            return None
        weights, adapter = locate_bundle(folder)
        return Parts(weights=weights, tokenizer=weights, adapter=adapter)

    def reload(self, address: str) -> LoadedModel:
        """Load a version through the python_function flavour."""
        import mlflow.pyfunc

        with _same_import_path():
            loaded: LoadedModel = mlflow.pyfunc.load_model(address).get_raw_model()
        return loaded

    def answer(self, loaded: LoadedModel, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """Return greedy answers, or the classes that a head names."""
        return (name_classes if loaded.labels else write_greedily)(loaded, rows)


def _data_folders(version: Path) -> Iterator[Path]:
    data = version / _DATA
    yield data
    yield from sorted(each for each in data.glob("*") if each.is_dir())


@contextmanager
def _same_import_path() -> Iterator[None]:
    # MLflow leaves the version's copy of this package first on it, and processes that are started
    # later would take their code from a folder that may be deleted.
    before = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = before
