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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import retune
from retune.hard_links import link_tree
from retune.model_records import is_bundle, locate_bundle
from retune.modeling.head_files import read_labels
from retune.registry.forms.classifier import class_signature, name_classes
from retune.registry.forms.release_form import Parts, Reply
from retune.registry.forms.signature import pin_requirements, text_signature
from retune.registry.forms.writer import write_greedily
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
        names_classes = read_labels(locate_bundle(release)[1]) is not None
        with TemporaryDirectory() as folder:
            # MLflow would copy the weights: it gets an empty folder of the name, filled below.
            empty = Path(folder) / release.name
            empty.mkdir()
            self._save_loader(empty, target, description, names_classes, example)
        link_tree(release, target / _DATA / release.name, without=(MANIFEST,))

    def _save_loader(
        self, data: Path, target: Path, description: MLmodel, names_classes: bool, example: str
    ) -> None:
        import mlflow.pyfunc

        mlflow.pyfunc.save_model(
            path=str(target),
            loader_module=_LOADER,
            data_path=str(data),
            code_paths=[str(Path(retune.__file__).parent)],
            mlflow_model=description,
            signature=class_signature() if names_classes else text_signature(),
            input_example=[example],
            pip_requirements=pin_requirements(_NEEDED_TO_SERVE),
        )

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

    def answer(
        self, loaded: LoadedModel, prompts: Sequence[Sequence[int]], max_new_tokens: int
    ) -> list[Reply]:
        """Return greedy answers as token ids, or the classes that a head names."""
        if loaded.labels:
            return name_classes(loaded, prompts)
        return write_greedily(loaded, prompts, max_new_tokens)


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
