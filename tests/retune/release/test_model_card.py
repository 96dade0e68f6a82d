"""A model card says what the weights are and what was measured, and no more."""

from __future__ import annotations

import yaml

from retune.release.model_card import ModelCard, render_model_card
from retune.score_records import Metric


def card(**changes: object) -> ModelCard:
    fields: dict[str, object] = {
        "model_name": "text-to-sql-pt",
        "base_model": "assets/base_tiny: v1",
        "method": "QLoRA (NF4), r = 16",
        "data": {"Rows": "2,000"},
        "models": {
            "base": {"sql_execution_match": Metric(value=0.03, low=0.01, high=0.05, n=348)},
            "merged": {"sql_execution_match": Metric(value=0.871, low=0.833, high=0.905, n=348)},
        },
    }
    return ModelCard.model_validate({**fields, **changes})


def header(text: str) -> dict[str, object]:
    parsed: dict[str, object] = yaml.safe_load(text.split("---\n")[1])
    return parsed


def test_figures_stand_with_interval_and_rows() -> None:
    text = render_model_card(card())

    assert "3.0 % [1.0 %, 5.0 %], n = 348" in text
    assert "87.1 % [83.3 %, 90.5 %], n = 348" in text
    assert "Released (this model)" in text


def test_the_header_is_what_hubs_read() -> None:
    read = header(render_model_card(card(license="apache-2.0", language="pt")))

    assert read["base_model"] == "assets/base_tiny: v1"
    assert read["license"] == "apache-2.0"
    assert read["language"] == "pt"
    assert read["library_name"] == "transformers"


def test_an_unknown_licence_is_said_to_be_unknown() -> None:
    text = render_model_card(card())

    assert "license" not in header(text)
    assert "it was not recorded" in text


def test_limits_are_listed() -> None:
    assert "- Only Portuguese." in render_model_card(card(limits=("Only Portuguese.",)))
