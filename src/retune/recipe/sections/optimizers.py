"""The optimizers that a recipe may name, and what each needs; known without importing torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from retune.recipe.sections.base import Text

SHARDED_OPTIMIZERS = ("adamw_torch", "adamw_torch_fused", "sgd", "adagrad", "rmsprop")
"""Those that hold the state of parts of weights (`training.sharding: fsdp`): torch's own."""

OPTIMIZERS = (
    "adamw_torch",
    "adamw_torch_fused",
    "adafactor",
    "sgd",
    "adagrad",
    "rmsprop",
    "ademamix",
    "adamw_8bit",
    "adamw_bnb_8bit",
    "ademamix_8bit",
    "lion_8bit",
    "lion_32bit",
    "paged_adamw_8bit",
    "paged_adamw_32bit",
    "paged_ademamix_8bit",
    "paged_ademamix_32bit",
    "paged_lion_8bit",
    "paged_lion_32bit",
    "rmsprop_bnb",
    "rmsprop_bnb_8bit",
    "rmsprop_bnb_32bit",
)
"""Names of transformers (`optim`) that torch, transformers and bitsandbytes compute by themselves,
on a CPU as on a GPU; a test runs a step with each. On a CPU there is nothing to page to: a paged
one is its plain form there."""

RENAMED = {
    "adamw_hf": "adamw_torch",
    "adamw_apex_fused": "adamw_torch_fused",
    "lion": "lion_32bit",
    "paged_adamw": "paged_adamw_32bit",
    "paged_lion": "paged_lion_32bit",
}
"""Names of older versions, or of other tools, and what they are called today."""

MISSING = {
    "adamw_anyprecision": "torchdistx",
    "adamw_torch_4bit": "torchao",
    "adamw_torch_8bit": "torchao",
    "adamw_torch_xla": "an XLA device",
    "adamw_torch_npu_fused": "an NPU",
    "grokadamw": "grokadamw",
    "stable_adamw": "torch-optimi",
    "lomo": "lomo_optim",
    "adalomo": "lomo_optim",
    "galore_": "galore_torch",
    "apollo_": "apollo_torch",
    "schedule_free_": "schedulefree",
}
"""Beginnings of names that transformers knows, and what they need that retune does not install."""


def _known(name: str) -> str:
    if name in OPTIMIZERS:
        return name
    needs = next((what for start, what in MISSING.items() if name.startswith(start)), None)
    if needs is not None:
        found = f"{name} needs {needs}, which retune does not bring"
    elif name in RENAMED:
        found = f"{name} is called {RENAMED[name]} today"
    else:
        found = f"{name} is no optimizer that transformers knows"
    raise PydanticCustomError(
        "optimizer",
        "{found}; choose one of {names}",
        {"found": found, "names": ", ".join(OPTIMIZERS)},
    )


def _list_names(schema: dict[str, object]) -> None:
    schema["enum"] = list(OPTIMIZERS)


OptimizerName = Annotated[Text, AfterValidator(_known), Field(json_schema_extra=_list_names)]
"""Name of an optimizer that can be computed here."""
