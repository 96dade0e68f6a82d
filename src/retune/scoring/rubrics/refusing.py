"""What of a rubric can be told as wrong only with what it is checked by."""

from __future__ import annotations

from collections.abc import Sequence

from retune.data.quality.languages import LanguageFinder
from retune.errors import ConfigError
from retune.recipe.sections.rubrics import LanguageRubric, RefusalRubric, RubricConfig
from retune.scoring.words import find_words


def refuse_unfit_rubrics(rubrics: Sequence[RubricConfig]) -> None:
    """Refuse languages that cannot be recognised, and words of which nothing is left.

    Args:
        rubrics: Rules of a recipe.

    Raises:
        ConfigError: One is; the message names it.
    """
    for place, each in enumerate(rubrics):
        key = f"scoring.rubrics[{place}]"
        if isinstance(each, LanguageRubric):
            LanguageFinder(each.languages, key=f"{key}.languages")
        if isinstance(each, RefusalRubric) and each.phrases:
            try:
                find_words(each.phrases, "")
            except ConfigError as error:
                raise ConfigError(f"{key}.phrases: {error}") from error
