"""Types of the flows' parameters: what Prefect's form shows, and what its server refuses.

A deployment keeps the JSON schema of its flow's parameters. The server holds every run's values
against it before the run is made, so that what can be refused there costs nobody a start.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

RECIPES = Path("conf/recipes")
"""Where a project keeps its recipes."""


class _ChosenRecipe:
    """Offers the project's recipes by name, and takes any other file by its path."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        other = {"title": "Another file", "type": "string", "minLength": 1}
        # Listed when the schema is made, which is when a project is deployed.
        found = [path.as_posix() for path in sorted(RECIPES.glob("*.yaml"))]
        if not found:
            return {**handler(schema), **other}
        return {"anyOf": [{"title": "Of this project", "type": "string", "enum": found}, other]}


class _KeyAndValue:
    """Refuses what cannot be an override; whether the recipe has its key, the flow asks first."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(schema), "title": "KEY=VALUE", "pattern": r"^\s*[A-Za-z_][\w.\-]*\s*="}


RecipeFile = Annotated[Path, _ChosenRecipe()]
"""A recipe's YAML file; a relative path starts at the worker's folder."""

Overrides = Sequence[Annotated[str, _KeyAndValue()]]
"""Settings that win over the recipe, such as ``training.learning_rate=1.0e-4``."""
