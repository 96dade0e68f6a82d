"""The gate in a whole run: a new base challenges the champion, and the gate tests itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from retune.tracking import connect, default_uri
from tests.flows.conftest import last_json, retune
from tests.tiny_models import write_snapshot

pytestmark = pytest.mark.slow


def test_a_new_base_challenges_the_champion_which_is_tested_against_itself(
    project: Path, finished: tuple[Path, dict[str, Any]]
) -> None:
    """Another tokenizer: the same rows, each model in its own tokens, and no figure per token.

    Then the champion, over the recipe's own base, is scored again, its rows shuffled and in other
    batches: it is never promoted over itself.
    """
    version = str(finished[1]["registered"]["version"])
    uri = default_uri(project.parent / ".retune")
    connect(uri).set_registered_model_alias("small", "champion", version)
    write_snapshot(project.parent / "other", "qwen3")
    slices = ("--set", "gate.slices=[hardness]", "--set", "gate.min_slice_rows=2")
    done = retune(project, "--set", "model.id=other", *slices, "--json")
    decision = last_json(done)["decision"]
    compared: dict[str, set[str]] = {"base": set(), "champion": set()}
    for each in decision["comparisons"]:
        compared[each["against"]].add(each["metric"])
    assert compared["base"] - compared["champion"] == {"perplexity"}
    assert {"sql_execution_match", "bits_per_byte"} <= compared["champion"]
    assert {each["against"] for each in decision["slices"]} == {"champion"}
    assert "small version 1, the champion, reads other tokens" in " ".join(done.stderr.split())

    done = retune(project, "--self-test", "--draws", "3", "--json", command="gate")
    found = last_json(done)
    assert done.returncode == 0 and found["model"] == f"small version {version}"
    assert [(each["flips"], each["vetoes"]) for each in found["counts"]] == [(0, 0)] * 2
    apart = {each["metric"]: each["rows"] for each in found["differences"]}
    assert apart["sql_execution_match"] == apart["perplexity"] == 0
