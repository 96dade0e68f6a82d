"""The typed recipe: its sections, how it is loaded, old names, its JSON schema."""

from retune.recipe.loading import LoadedRecipe, load_recipe
from retune.recipe.recipe import Recipe
from retune.recipe.schema import recipe_schema, recipe_schema_text

__all__ = ["LoadedRecipe", "Recipe", "load_recipe", "recipe_schema", "recipe_schema_text"]
