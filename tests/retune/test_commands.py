"""Commands that are printed, as a shell reads them."""

from __future__ import annotations

import shlex
from pathlib import Path

from retune.commands import set_options, shell_line


def test_a_shell_reads_the_words_that_a_line_was_made_of() -> None:
    """Blanks, quotes, dollars, stars and leading signs are parts of words."""
    words = ["retune", "ui", "--recipe", "my recipes/it's $HOME *.yaml", "", "#x"]
    assert shlex.split(shell_line(*words)) == words
    assert shell_line("retune", Path("conf/recipe.yaml")) == "retune conf/recipe.yaml"


def test_overrides_are_one_option_each() -> None:
    """What YAML brackets, a shell must not read as a pattern."""
    assert set_options(["method.r=4", "data.labels=[good, bad]"]) == (
        "--set method.r=4 --set 'data.labels=[good, bad]'"
    )
