"""The JSON schema: in step with the types, good for the shipped recipes, useful in an editor."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from retune.recipe import recipe_schema, recipe_schema_text
from retune.recipe.document import read_document

PROJECT = Path(__file__).parents[3]
SHIPPED = sorted((PROJECT / "conf" / "recipes").glob("*.yaml"))
VALIDATOR = jsonschema.Draft202012Validator(recipe_schema())


def test_the_schema_is_itself_valid_draft_2020_12():
    assert recipe_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(recipe_schema())


def test_the_schema_file_is_what_the_types_say():
    # Out of date? `retune schema > conf/recipe.schema.json`
    written = (PROJECT / "conf" / "recipe.schema.json").read_text(encoding="utf-8")
    assert written == recipe_schema_text()


@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda path: path.stem)
def test_the_schema_accepts_every_shipped_recipe(shipped):
    VALIDATOR.validate(read_document(shipped).values)


@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_recipe_points_editors_to_the_schema(shipped):
    first = shipped.read_text(encoding="utf-8").splitlines()[0]
    label, _, target = first.partition("$schema=")
    assert label == "# yaml-language-server: "
    assert (shipped.parent / target).resolve() == PROJECT / "conf" / "recipe.schema.json"


@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_recipe_reads_the_same_in_older_yaml(shipped):
    # Other tools read YAML 1.1, where 2e-4 is a text and no is false: write what both agree on.
    text = shipped.read_text(encoding="utf-8")
    assert yaml.safe_load(text) == read_document(shipped).values


def test_the_schema_marks_an_unknown_key_and_a_value_out_of_bounds():
    wrong = {
        "name": "a",
        "data": {"train": "a"},
        "model": {"id": "a"},
        "registry": {"model_name": "a"},
        "trainig": {},
        "split": {"test_fraction": 2},
    }
    assert len(list(VALIDATOR.iter_errors(wrong))) == 2


def test_every_key_in_the_schema_has_a_description_for_the_editor():
    schema = recipe_schema()
    sections = [schema, *schema["$defs"].values()]
    for section in sections:
        for key, node in section["properties"].items():
            # pydantic leaves a section's description to the section where both are the same.
            shown = {**schema["$defs"].get(node.get("$ref", "").rpartition("/")[2], {}), **node}
            assert shown.get("description"), f"{section['title']}.{key}"


@pytest.mark.parametrize(
    ("method", "valid"),
    [
        ({"r": 8}, True),
        ({}, True),
        ({"kind": "qlora", "init": True}, True),
        ({"kind": "full"}, True),
        ({"kind": "full", "r": 8}, False),
        ({"kind": "other"}, False),
    ],
)
def test_the_schema_knows_each_method_and_that_kind_may_be_left_out(method, valid):
    least = {"name": "a", "data": {"train": "a"}, "model": {"id": "a"}}
    recipe = {**least, "registry": {"model_name": "a"}, "method": method}
    assert VALIDATOR.is_valid(recipe) == valid
