"""Sections as types: documented, strict and frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError

from retune.errors import ConfigError
from retune.recipe import Recipe
from retune.recipe.fields import known_paths, section_at
from retune.recipe.loading import load_recipe
from retune.recipe.sections import (
    DataConfig,
    FullConfig,
    LoraConfig,
    PromptConfig,
    QloraConfig,
    Section,
    SourceConfig,
    TrackingConfig,
    TrainingConfig,
)
from retune.recipe.validation import path_of

SECTIONS = sorted(
    {section_at(path.split(".")) for path in known_paths()} - {None}
    | {Recipe, QloraConfig, FullConfig},
    key=lambda section: section.__name__,
)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_field_of_every_section_says_what_it_means(section: type[BaseModel]):
    assert issubclass(section, Section)
    assert section.__doc__
    undocumented = [key for key, info in section.model_fields.items() if not info.description]
    assert undocumented == []


def test_one_path_stands_for_a_list_of_one_source():
    one = DataConfig.model_validate({"train": "rows/train.jsonl"})
    assert one.train == (SourceConfig(path=Path("rows/train.jsonl")),)
    assert one == DataConfig.model_validate({"train": [{"path": "rows/train.jsonl"}]})
    assert one == DataConfig.model_validate({"train": {"path": "rows/train.jsonl"}})


def test_paths_and_sections_may_stand_in_one_list_of_sources():
    mixed = DataConfig.model_validate({"train": ["a.jsonl", {"hub": "owner/set", "split": "all"}]})
    assert mixed.train[0].path == Path("a.jsonl")
    assert (mixed.train[1].hub, mixed.train[1].split) == ("owner/set", "all")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ({}, "found neither"),
        ({"path": "a.jsonl", "hub": "owner/set"}, "found both"),
        ({"path": "a.jsonl", "revision": "main"}, "belongs to a hub dataset"),
        ({"path": "a.jsonl", "streaming": True}, "belongs to a hub dataset"),
        ({"path": "a.jsonl", "weight": 0}, "greater than 0"),
    ],
)
def test_a_source_is_either_files_or_a_hub_dataset(source, text):
    with pytest.raises(ValidationError, match=text):
        DataConfig.model_validate({"train": [source]})


def test_weights_are_given_for_all_sources_or_for_none():
    with pytest.raises(ValidationError, match="other sources have one"):
        DataConfig.model_validate({"train": ["a.jsonl", {"path": "b.jsonl", "weight": 2.0}]})


def test_held_out_sources_are_not_mixed():
    test = [{"path": "b.jsonl", "weight": 1.0}]
    with pytest.raises(ValidationError, match="held-out rows are not mixed"):
        DataConfig.model_validate({"train": "a.jsonl", "test": test})


def test_the_names_of_labels_differ():
    with pytest.raises(ValidationError, match="names 'ham' twice"):
        DataConfig.model_validate({"train": "a.jsonl", "labels": ["ham", "spam", "ham"]})


def test_a_place_in_a_list_of_one_is_no_part_of_the_path_that_a_person_reads():
    location = ("data", "train", 0, "weight")
    assert path_of(location, {"data": {"train": {"weight": 0}}}) == ("data", "train", "weight")
    assert path_of(location, {"data": {"train": "a.jsonl"}}) == ("data", "train")
    assert path_of(location, {"data": {"train": [{"weight": 0}]}}) == location


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
    assert prompt.user.format(question="?", context="", schema="") == '{"q": "?"}'


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


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (
            "method: {kind: prompt}\ntraining: {packing: true}\n",
            "training.packing: is true, but prompt puts learned inputs before a sequence",
        ),
        (
            "head: {}\ntraining: {packing: true}\n",
            "training.packing: is true, but a classification head reads one token",
        ),
        (
            "head: {}\ntraining: {watch: sql_exact_match}\n",
            "training.watch: is sql_exact_match, which a classification head does not have",
        ),
        (
            "training: {torch_compile: true}\n",
            "training.torch_compile: is true, but a quantized base is not compiled",
        ),
        (
            "method: {kind: prompt}\ntraining: {sharding: fsdp}\n",
            "training.sharding: is fsdp, but method.kind is prompt; choose one of full",
        ),
        (
            "store: {folder: s3://bucket/a}\nrunner: {kind: ray, address: 'head:6379'}\n"
            "training: {devices: 4}\n",
            "store.folder: is s3://bucket/a, but training.devices is 4, of the cluster at "
            "runner.address",
        ),
        (
            "head: {}\ntraining: {sharding: fsdp}\n",
            "training.sharding: is fsdp, but head is trained with the whole model on each device",
        ),
        (
            "training: {sharding: fsdp, optimizer: paged_adamw_8bit}\n",
            "training.optimizer: is paged_adamw_8bit, which cannot hold the state of a part",
        ),
        (
            "training: {devices: 3, batch_size: 16}\n",
            "training.devices: 3 devices cannot share the 16 rows of a step equally; write 2 or 4",
        ),
    ],
)
def test_controls_that_other_sections_rule_out(write_recipe, more, text):
    with pytest.raises(ConfigError) as caught:
        load_recipe(write_recipe(more))
    assert text in str(caught.value)
    # Each is told once.
    assert "has 1 problem:" in str(caught.value)
