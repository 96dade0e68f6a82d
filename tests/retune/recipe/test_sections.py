"""Sections as types: documented, strict, frozen, and with an identity for stage keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError

from retune.recipe import (
    DataConfig,
    LoraConfig,
    PromptConfig,
    Recipe,
    Section,
    TrackingConfig,
    TrainingConfig,
    TrainingRuntime,
    identity,
    load_recipe,
)
from retune.recipe.fields import known_paths, section_at
from retune.recipe.validation import path_of

SECTIONS = sorted(
    {section_at(path.split(".")) for path in known_paths()} - {None} | {Recipe},
    key=lambda section: section.__name__,
)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_field_of_every_section_says_what_it_means(section: type[BaseModel]):
    assert issubclass(section, Section)
    assert section.__doc__
    undocumented = [key for key, info in section.model_fields.items() if not info.description]
    assert undocumented == []


def test_identity_leaves_out_what_cannot_change_a_result():
    slow = TrainingConfig(runtime=TrainingRuntime(data_workers=0))
    fast = TrainingConfig(runtime=TrainingRuntime(data_workers=8, log_every_steps=1))
    assert identity(slow) == identity(fast)
    assert "runtime" not in identity(slow)


def test_identity_moves_with_everything_else():
    base = identity(TrainingConfig())
    assert identity(TrainingConfig(learning_rate=1e-3)) != base
    assert identity(TrainingConfig(max_steps=5)) != base


def test_identity_of_a_whole_recipe_has_no_runtime_at_any_depth(write_recipe):
    assert "runtime" not in json.dumps(identity(load_recipe(write_recipe()).recipe))


def test_identity_is_json_with_paths_as_they_were_written():
    section = DataConfig(train=Path("rows/train.jsonl"), databases=Path("/abs/db.jsonl"))
    found = identity(section)
    assert found["train"] == "rows/train.jsonl"
    assert found["databases"] == "/abs/db.jsonl"
    assert found["test"] is None
    assert json.loads(json.dumps(found)) == found


def test_a_section_survives_the_way_through_json():
    section = LoraConfig(target_modules=("q_proj", "v_proj"))
    assert LoraConfig.model_validate(section.model_dump(mode="json")) == section


def test_equal_sections_are_equal_and_hash_alike():
    assert hash(TrainingConfig()) == hash(TrainingConfig())
    assert TrainingConfig() == TrainingConfig(epochs=3)


def test_a_section_made_in_code_refuses_a_secret_without_showing_it():
    with pytest.raises(ValidationError) as caught:
        TrackingConfig(uri="http://me:hunter2@host")
    assert "hunter2" not in str(caught.value)


def test_doubled_braces_in_a_prompt_are_braces():
    prompt = PromptConfig(user='{{"q": "{question}"}}')
    assert prompt.user.format(question="?", schema="") == '{"q": "?"}'


def test_the_rows_of_one_pass_are_an_equal_part_of_a_step():
    assert TrainingConfig(batch_size=16, gradient_accumulation=4).rows_per_pass == 4


def test_the_tag_of_a_tagged_union_is_no_part_of_the_path_that_a_person_reads():
    class A(BaseModel):
        kind: Literal["a"]
        size: int

    class B(BaseModel):
        kind: Literal["b"]

    class Whole(BaseModel):
        method: Annotated[A | B, Field(discriminator="kind")]

    written = {"method": {"kind": "a", "size": "x"}}
    with pytest.raises(ValidationError) as caught:
        Whole.model_validate(written)
    location = caught.value.errors()[0]["loc"]
    assert location == ("method", "a", "size")
    assert path_of(location, written) == ("method", "size")
