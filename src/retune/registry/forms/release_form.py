"""The forms that a model is released in: how each becomes a version, and how it is read again.

What a release folder holds says which form it is. The registry knows no form; a form knows MLflow's
flavour, where the parts of a version lie, and how a loaded model answers the rows that prove it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from mlflow.models import Model as MLmodel

    from retune.inference.loaded_models import LoadedModel

Reply = list[int] | str
"""The ids of the tokens that a model wrote, or the name of the class that its head found."""


@dataclass(frozen=True)
class Parts:
    """Where the parts of a version lie.

    Attributes:
        weights: The snapshot.
        tokenizer: Folder of the tokenizer.
        adapter: What is put over the weights; None where they are the whole model.
    """

    weights: Path
    tokenizer: Path
    adapter: Path | None = None


class ReleaseForm(Protocol):
    """One form of a release."""

    def fits(self, release: Path) -> bool:
        """Tell whether a release folder is of this form."""
        ...

    def save(self, release: Path, target: Path, description: MLmodel, example: str) -> None:
        """Write a release as an MLflow model.

        Args:
            release: The release folder.
            target: Where to; does not exist yet.
            description: The model's identity in MLflow.
            example: A prompt as the model reads it.
        """
        ...

    def locate(self, version: Path) -> Parts | None:
        """Return the parts of a version's folder; None where it is not, or not whole, of this form.

        Args:
            version: The folder that `save` wrote, on this machine.
        """
        ...

    def reload(self, address: str) -> LoadedModel:
        """Load a version the way a consumer does, through MLflow.

        Args:
            address: ``models:/name/version``.

        Returns:
            The model on the device and in the dtype that scorers use.

        Raises:
            MlflowException: MLflow does not answer, or cannot load it.
        """
        ...

    def answer(
        self, loaded: LoadedModel, prompts: Sequence[Sequence[int]], max_new_tokens: int
    ) -> list[Reply]:
        """Return what two equal models answer alike.

        Args:
            loaded: The release, or the version that was made of it.
            prompts: Token ids per prompt.
            max_new_tokens: Most tokens written per prompt, by a model that writes.

        Raises:
            ScoringError: A prompt is empty, or with its answer longer than the model's context.
        """
        ...


_FORMS = (
    "retune.registry.forms.bundle:BundleForm",
    "retune.registry.forms.classifier:ClassifierForm",
    "retune.registry.forms.writer:WriterForm",
)
"""The first that fits a folder is its form: what is more than plain weights comes before them."""


def form_of(release: Path) -> ReleaseForm:
    """Return the form of a release folder.

    Args:
        release: What `merge_adapter` or another stage of its kind wrote.
    """
    *special, plain = _forms()
    return next((form for form in special if form.fits(release)), plain)


def locate_parts(version: Path) -> Parts | None:
    """Return the parts of a version's folder, None where it is of no known form or not whole.

    Args:
        version: The version's folder, on this machine.
    """
    found = (form.locate(version) for form in _forms())
    return next((parts for parts in found if parts is not None), None)


def form_of_version(version: Path) -> ReleaseForm | None:
    """Return the form of a version's folder, None where it is of no known one or not whole.

    Args:
        version: The version's folder, on this machine.
    """
    return next((form for form in _forms() if form.locate(version) is not None), None)


@lru_cache
def _forms() -> tuple[ReleaseForm, ...]:
    # By name, since a form's module imports what it shares with this one.
    return tuple(cast(ReleaseForm, _named(name)()) for name in _FORMS)


def _named(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)
