"""The JSON schema of a recipe, for editors and forms."""

from __future__ import annotations

import json
from typing import Any

from retune.recipe.recipe import Recipe

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def recipe_schema() -> dict[str, Any]:
    """Describe a recipe as JSON schema (draft 2020-12).

    Returns:
        The schema; each key's documentation is its description. Old names are not in it: an editor
        marks them, while loading still understands them.
    """
    return {"$schema": DRAFT, **Recipe.model_json_schema(mode="validation")}


def recipe_schema_text() -> str:
    """Write the schema as `conf/recipe.schema.json` holds it.

    Returns:
        JSON in ASCII, since it goes through a terminal or a pipe, with a final line break.
    """
    return json.dumps(recipe_schema(), indent=2) + "\n"
