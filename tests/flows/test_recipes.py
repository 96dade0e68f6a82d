"""Every recipe that ships: it is valid, its tiny variant passes its checks, and trains on a CPU."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from retune.errors import ScoringError
from retune.recipe import load_recipe
from tests.flows.conftest import environment, last_json
from tests.judge_stand_in import (
    Rule,
    StandInJudge,
    always_first,
    longer,
    preferring,
    standing_in,
)
from tests.preloading import run_command
from tests.serving import copy_tracking_database
from tests.tiny_models import REPOSITORY
from tests.waiting import GUARD_SECONDS

RECIPES = sorted((REPOSITORY / "conf" / "recipes").glob("*.yaml"))
WITH_TINY = [path for path in RECIPES if "tiny" in load_recipe(path).recipe.variants]
COMPARED = {"full_against_lora", "lora_sweep"}
"""Recipes that are trained several times, by `compare` and `sweep`."""
FEW_STEPS = {"training.max_steps": 10, "training.batch_size": 4, "prompt.max_length": 512}
"""By which the loss of each recipe's rows falls clearly."""
MORE_STEPS = {"training.max_steps": 24, "training.batch_size": 8, "training.epochs": 1}
"""By which queries and classes grow clearly better."""
ENOUGH = {"perplexity": FEW_STEPS, "chrf": {"training.epochs": 1}}
"""By the figure that decides: free answers want one pass over the rows."""
FEW_ROWS = {
    "split.max_test_rows": 40,
    "split.max_validation_rows": 20,
    "merge.check_rows": 4,
    "registry.check_rows": 2,
}
"""Rows that models are scored on, and that a merged and a registered one are proved on."""


Retune = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def retune(tmp_path_factory: pytest.TempPathFactory) -> Retune:
    """Run a command on a shipped recipe in small.

    All recipes share a store: the rows and the base that ship are read, prepared and scored once,
    by the check of the first recipe that names them, and a run finds what its check prepared.
    """
    folder = tmp_path_factory.mktemp("recipes")
    copy_tracking_database(folder / "store")

    def run(*arguments: str, variant: str = "tiny") -> subprocess.CompletedProcess[str]:
        settings = {"variant": variant, "store.folder": folder / "store", **FEW_ROWS}
        chosen = [f"--set={name}={value}" for name, value in settings.items()]
        return run_command(
            "retune.cli",
            # What a test sets itself comes last, and holds.
            [*arguments[:2], *chosen, *arguments[2:]],
            folder=REPOSITORY,
            environment=environment(folder),
            timeout=GUARD_SECONDS,
        )

    return run


def name_of(path: Path) -> str:
    return path.stem


def test_every_recipe_but_the_demo_has_a_tiny_variant() -> None:
    """The demo is small as it is."""
    assert {path.stem for path in RECIPES} - {path.stem for path in WITH_TINY} == {
        "text_to_sql_demo"
    }


@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_every_variant_of_a_recipe_can_be_applied(path: Path) -> None:
    """Each alone; a name or a value that is wrong would be an error."""
    for name in load_recipe(path).recipe.variants:
        assert load_recipe(path, [f"variant={name}"]).recipe.variant == (name,)


@pytest.mark.parametrize("path", WITH_TINY, ids=name_of)
def test_every_method_variant_fits_the_tiny_one(path: Path) -> None:
    """`retune compare --set variant=tiny` applies both, the method's after it."""
    for name in load_recipe(path).recipe.variants:
        assert load_recipe(path, [f"variant=[tiny, {name}]"]).recipe.model.id


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_a_recipe_passes_its_checks_in_small(path: Path, retune: Retune) -> None:
    """`retune check` looks at model, rows, template and loss mask, and would start a run."""
    done = retune("check", str(path), variant="tiny" if path in WITH_TINY else "quick")
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    assert "retune run would start" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [path for path in WITH_TINY if path.stem not in COMPARED], ids=name_of
)
def test_a_recipe_trains_in_small(path: Path, retune: Retune) -> None:
    """It learns: the figure that decides is better than that of the base.

    Perplexity falls within a few steps; answers want some more.
    """
    metric = load_recipe(path, ["variant=tiny"]).recipe.gate.metric
    assert metric is not None
    enough = ENOUGH.get(metric, MORE_STEPS)
    settings = [f"--set={name}={value}" for name, value in enough.items()]
    summary = last_json(retune("run", str(path), "--json", *settings))
    found: dict[str, Any] = {role: each[metric] for role, each in summary["models"].items()}
    better = found["merged"]["value"] > found["base"]["value"]
    assert better != (metric == "perplexity"), found
    assert summary["decision"]["reasons"]
    assert summary["registered"]["answers_equal"] == summary["registered"]["rows_checked"]


def write_verdicts(path: Path, rows: list[Row]) -> Path:
    """Write pairs that people have judged: a row's own answer against that of another kind."""
    pairs = []
    for at, row in enumerate(rows[:40]):
        other = next(each.answer for each in rows[at:] if each.kind != row.kind)
        answers = [row.answer, other] if at % 2 else [other, row.answer]
        verdict = "tie" if row.answer == other else "a" if at % 2 else "b"
        pairs.append(
            {"prompt": row.prompt, "verdict": verdict}
            | dict(zip(("answer_a", "answer_b"), answers, strict=True))
        )
    path.write_text("\n".join(json.dumps(each) for each in pairs), "utf-8")
    return path


class Row(NamedTuple):
    """A question as a model is asked it, its own answer, and what kind of question it is."""

    prompt: str
    answer: str
    kind: str


def read_lines(*parts: str) -> list[dict[str, Any]]:
    lines = REPOSITORY.joinpath("assets", *parts).read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def read_instructions(name: str) -> list[Row]:
    return [
        Row(f"{row['instruction']}\n\n{row['input']}", row["output"], row["kind"])
        for row in read_lines("instructions_pt", name)
    ]


def judged_by(judge: StandInJudge, verdicts: Path, language: str) -> dict[str, Any]:
    """Return the settings by which a judge decides, held against people's verdicts."""
    return {
        "judge.endpoint": judge.address,
        "judge.model": "judge",
        "judge.language": language,
        "judge.human_verdicts": verdicts,
        "gate.metric": "judge_win_rate",
        "gate.guards": "{}",
        "registry.model_name": "judged",
    }


def nearest(rows: list[Row]) -> Rule:
    """Return the rule of a judge who knows: by how much of the row's own answer another one has."""
    right = {row.prompt: row.answer for row in rows}

    def rank(question: str, answer: str) -> float:
        # What the system message says stands before it.
        asked = max((each for each in right if question.endswith(each)), key=len)
        return SequenceMatcher(None, answer, right[asked]).ratio()

    return preferring(rank)


@pytest.mark.slow
def test_a_judge_that_people_agree_with_decides(retune: Retune, tmp_path: Path) -> None:
    """One that always says the first is refused before the training; one that knows, decides.

    What is trained is what the test of the recipe has trained.
    """
    rows = read_instructions("train.jsonl")
    path = REPOSITORY / "conf" / "recipes" / "portuguese_instructions.yaml"
    with standing_in() as judge:
        verdicts = write_verdicts(tmp_path / "verdicts.jsonl", rows)
        settings = {**ENOUGH["chrf"], **judged_by(judge, verdicts, "pt")}
        arguments = [str(path), *(f"--set={name}={value}" for name, value in settings.items())]

        judge.rule = always_first
        refused = retune("check", *arguments)
        assert refused.returncode == ScoringError.exit_code
        assert "prefers what is shown first in 100%" in " ".join(refused.stderr.split())

        judge.rule = nearest([*rows, *read_instructions("test.jsonl")])
        arguments.append("--set=judge.revision=second")
        found = last_json(retune("run", *arguments, "--json"))
    rates = {role: found["models"][role]["judge_win_rate"] for role in ("merged", "base")}
    assert rates["merged"]["value"] > 0.5 > rates["base"]["value"]
    assert found["decision"]["metric"] == "judge_win_rate"
    assert found["decision"]["promote"], found["decision"]["reasons"]
    assert any("judge judge and people: kappa 1.00" in n for n in found["decision"]["notes"])


@pytest.mark.slow
def test_documentation_is_judged(retune: Retune, tmp_path: Path) -> None:
    """A judge of whom people think alike decides; one that likes what is longer does not.

    After ten steps the model writes no better English than before: whichever it is, the decision
    follows the interval of the judge's win rate. What is trained is what the test of the recipe has
    trained.
    """
    rows = [
        Row(row["question"], row["answer"], row["question"])
        for row in read_lines("documentation_en", "rows.jsonl")
    ]
    path = REPOSITORY / "conf" / "recipes" / "gpt_oss_documentation.yaml"
    with standing_in() as judge:
        settings = {
            **FEW_STEPS,
            **judged_by(judge, write_verdicts(tmp_path / "verdicts.jsonl", rows), "en"),
        }
        arguments = [str(path), *(f"--set={name}={value}" for name, value in settings.items())]

        judge.rule = longer
        refused = retune("check", *arguments)
        assert refused.returncode == ScoringError.exit_code
        assert "longer" in " ".join(refused.stderr.split())

        judge.rule = nearest(rows)
        arguments.append("--set=judge.revision=second")
        found = last_json(retune("run", *arguments, "--json"))
    decision = found["decision"]
    [judged] = [each for each in decision["comparisons"] if each["metric"] == "judge_win_rate"]
    assert decision["metric"] == "judge_win_rate"
    assert decision["promote"] == (judged["low"] > 0)
    assert any("judge judge and people: kappa 1.00" in note for note in decision["notes"])


@pytest.mark.slow
def test_documentation_is_gated_by_what_the_model_writes(retune: Retune) -> None:
    """As the recipe says in large: chrF decides, and words and perplexity are guards.

    Ten steps teach the embedded base no English, so that perplexity falls and no answer is better:
    the guards hold, and the challenger is rejected. What is trained is what the test of the recipe
    has trained.
    """
    path = REPOSITORY / "conf" / "recipes" / "gpt_oss_documentation.yaml"
    gate = {"gate.metric": "chrf", "gate.guards": "{token_f1: 0.02, perplexity: 0.1}"}
    settings = [f"--set={name}={value}" for name, value in {**FEW_STEPS, **gate}.items()]
    decision = last_json(retune("run", str(path), "--json", *settings))["decision"]
    assert (decision["metric"], decision["promote"]) == ("chrf", False)
    assert {each["metric"] for each in decision["comparisons"]} >= {
        "chrf",
        "token_f1",
        "perplexity",
    }
    assert len(decision["reasons"]) == 1 and "chrF" in decision["reasons"][0]


@pytest.mark.slow
def test_full_is_compared_with_lora_in_small(retune: Retune) -> None:
    """Both finish, with quality, memory and parameters; each at the learning rate of its variant.

    4,065,536 is the whole embedded base. LoRA has r * (in + out) per layer: q, k, v, o 512 each,
    three of 256 + 640: 4,736 a block, times r = 16, times 4 blocks: 303,104.
    """
    path = REPOSITORY / "conf" / "recipes" / "full_against_lora.yaml"
    few = {"training.max_steps": 6, "training.batch_size": 4, "split.max_test_rows": 10}
    settings = [f"--set={name}={value}" for name, value in few.items()]
    arguments = ["compare", str(path), "--methods", "full,lora", "--json", *settings]
    found = last_json(retune(*arguments))
    trials = {each["result"]["name"]: each["result"] for each in found["trials"]}
    assert {name: trial["state"] for name, trial in trials.items()} == {
        "full": "finished",
        "lora": "finished",
    }
    assert trials["full"]["learning_rate"] == 1.0e-3
    assert trials["lora"]["learning_rate"] == 3.0e-3
    assert trials["full"]["trainable_parameters"] == 4_065_536
    assert trials["lora"]["trainable_parameters"] == 303_104


@pytest.mark.slow
def test_ranks_are_swept_in_small(retune: Retune) -> None:
    """Each rank is a trial; an adapter of four times the rank is four times as large."""
    path = REPOSITORY / "conf" / "recipes" / "lora_sweep.yaml"
    few = {"training.max_steps": 6, "training.batch_size": 4, "split.max_test_rows": 10}
    settings = [f"--set={name}={value}" for name, value in few.items()]
    found = last_json(retune("sweep", str(path), "--grid", "method.r=2,8", "--json", *settings))
    trained = [trial["result"]["trainable_parameters"] for trial in found["trials"]]
    assert len(trained) == 2
    assert max(trained) == 4 * min(trained)
