"""The card of an export: that of the version's run, with what is true of this folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from retune.pages.templates import page_templates
from retune.publishing.choices import ExportForm
from retune.publishing.records import EXPORT_FILE, MANIFEST_FILE
from retune.registry.versions.descriptions import VersionDescription

if TYPE_CHECKING:
    from jinja2 import Environment

_LOADING = re.compile(r"^## How to load\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)
_UNKNOWN_LICENCE = re.compile(r"^- The licence of the base model applies;.*\n?", re.MULTILINE)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_LIBRARIES: dict[ExportForm, str] = {"adapter": "peft", "merged": "transformers", "gguf": "gguf"}


@dataclass(frozen=True)
class CardFacts:
    """What is true of an export and not of the version.

    Attributes:
        form: What was exported.
        license: Id of the base's licence; None where it is not known.
        base_is_folder: Whether the base's name is a folder and none of the hub.
        labels: Names of the classes of a model with a head.
        has_manifest: Whether a manifest lies beside.
        gguf_file: Name of the GGUF file.
    """

    form: ExportForm
    license: str | None
    base_is_folder: bool
    labels: tuple[str, ...] | None
    has_manifest: bool
    gguf_file: str | None = None


def render_card(version: VersionDescription, facts: CardFacts) -> str:
    """Write the README.md of an export.

    Args:
        version: The version, with the card of its run where that is there.
        facts: Of the export.

    Returns:
        The card with the header that model hubs read; without a card of the run it says that no
        figures were found.
    """
    header, text = _split(version.card or _without_figures(version))
    found = _LOADING.search(text)
    before, after = (text[: found.start()], text[found.end() :]) if found else (text, "")
    if facts.license:
        after = _UNKNOWN_LICENCE.sub("", after)
    return (
        _templates()
        .get_template("card.md.j2")
        .render(
            header=_header(header, version, facts),
            before=before.strip(),
            after=after.strip(),
            form=facts.form,
            labels=facts.labels,
            gguf_file=facts.gguf_file,
            name=version.model_name,
            version=version.located.version,
            released=version.located.digest,
            base=version.base_name or "a base that the version does not name",
            license=facts.license,
            manifest=facts.has_manifest,
            manifest_file=MANIFEST_FILE,
            export_file=EXPORT_FILE,
        )
    )


def _split(card: str) -> tuple[dict[str, object], str]:
    from huggingface_hub import ModelCard

    parsed = ModelCard(card, ignore_metadata_errors=True)
    return dict(parsed.data.to_dict()), str(parsed.text)


def _header(said: dict[str, object], version: VersionDescription, facts: CardFacts) -> str:
    import yaml

    header = {**said, "library_name": _LIBRARIES[facts.form]}
    header["pipeline_tag"] = "text-classification" if facts.labels else "text-generation"
    header.pop("base_model", None)
    # The hub refuses a base that is none of its own.
    if not facts.base_is_folder and _HUB_ID.fullmatch(version.base_name):
        header["base_model"] = version.base_name
        header["base_model_relation"] = {
            "adapter": "adapter",
            "merged": "finetune",
            "gguf": "quantized",
        }[facts.form]
    if facts.license:
        header["license"] = facts.license
    return yaml.safe_dump(header, sort_keys=True, allow_unicode=True).strip()


def _without_figures(version: VersionDescription) -> str:
    return (
        f"---\ntags:\n- retune\n---\n\n# {version.model_name}\n\n"
        "## Figures\n\nThe run that made this version is no longer in MLflow, or wrote no card: "
        "its figures are not known here.\n"
    )


@lru_cache
def _templates() -> Environment:
    return page_templates(Path(__file__).parent / "templates")
