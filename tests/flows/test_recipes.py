"""Every recipe that ships: it is valid, its tiny variant passes its checks, and trains on a CPU."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import pytest

from retune.errors import ScoringError
from retune.recipe import load_recipe
from tests.flows.conftest import environment, last_json
from tests.judge_stand_in import always_first, preferring, standing_in
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


def write_verdicts(path: Path) -> Path:
    """Write pairs that people have judged: a row's own answer against that of another kind."""
    rows = read_instructions("train.jsonl")
    pairs = []
    for at, row in enumerate(rows[:40]):
        other = next(each["output"] for each in rows[at:] if each["kind"] != row["kind"])
        answers = [row["output"], other] if at % 2 else [other, row["output"]]
        verdict = "tie" if row["output"] == other else "a" if at % 2 else "b"
        pairs.append(
            {"prompt": asked(row), "verdict": verdict}
            | dict(zip(("answer_a", "answer_b"), answers, strict=True))
        )
    path.write_text("\n".join(json.dumps(each) for each in pairs), "utf-8")
    return path


def read_instructions(name: str) -> list[dict[str, Any]]:
    lines = (REPOSITORY / "assets" / "instructions_pt" / name).read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def asked(row: dict[str, Any]) -> str:
    return f"{row['instruction']}\n\n{row['input']}"


@pytest.mark.slow
def test_a_judge_that_people_agree_with_decides(retune: Retune, tmp_path: Path) -> None:
    """One that always says the first is refused before the training; one that knows, decides.

    It knows by how much of the row's own answer another one has. What is trained is what the test
    of the recipe has trained.
    """
    rows = [*read_instructions("train.jsonl"), *read_instructions("test.jsonl")]
    right = {asked(row): row["output"] for row in rows}
    path = REPOSITORY / "conf" / "recipes" / "portuguese_instructions.yaml"
    with standing_in() as judge:
        settings = {
            **ENOUGH["chrf"],
            "judge.endpoint": judge.address,
            "judge.model": "judge",
            "judge.language": "pt",
            "judge.human_verdicts": write_verdicts(tmp_path / "verdicts.jsonl"),
            "gate.metric": "judge_win_rate",
            "gate.guards": "{}",
            "registry.model_name": "judged",
        }
        arguments = [str(path), *(f"--set={name}={value}" for name, value in settings.items())]

        judge.rule = always_first
        refused = retune("check", *arguments)
        assert refused.returncode == ScoringError.exit_code
        assert "prefers what is shown first in 100%" in " ".join(refused.stderr.split())

        judge.rule = preferring(
            lambda question, answer: SequenceMatcher(None, answer, right[question]).ratio()
        )
        arguments.append("--set=judge.revision=second")
        found = last_json(retune("run", *arguments, "--json"))
        rates = {role: found["models"][role]["judge_win_rate"] for role in ("merged", "base")}
        assert rates["merged"]["value"] > 0.5 > rates["base"]["value"]
        assert found["decision"]["metric"] == "judge_win_rate"
        assert found["decision"]["promote"], found["decision"]["reasons"]
        assert any("judge judge and people: kappa 1.00" in n for n in found["decision"]["notes"])


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
