"""Loading: what a good recipe gives, precedence, roots, shipped recipes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import retune
from retune.errors import ConfigError
from retune.recipe import load_recipe
from retune.recipe.fields import known_paths
from retune.recipe.sections import LoraConfig
from tests.retune.recipe.conftest import SMALL

PROJECT = Path(__file__).parents[3]
SHIPPED = sorted((PROJECT / "conf" / "recipes").glob("*.yaml"))
DEMO = PROJECT / "conf" / "recipes" / "text_to_sql_demo.yaml"
_ABOVE = {path.rpartition(".")[0] for path in known_paths()}
# The demo adapts by lora and has none of these: their keys are those of another recipe.
_ABSENT = (
    *("head", "dpo", "grpo", "judge", "probes.sampling"),
    *("retrain.triggers.drift", "retrain.triggers.degraded"),
)
_OTHER_METHODS = {path for path in known_paths() if path.startswith("method.")} - {
    f"method.{key}" for key in LoraConfig.model_fields
}
LEAVES = [
    path
    for path in known_paths()
    if path in _ABSENT
    or (
        path not in _ABOVE | _OTHER_METHODS
        and not path.startswith(tuple(f"{absent}." for absent in _ABSENT))
    )
]


def test_keys_that_are_left_out_take_the_defaults_of_their_section(write_recipe):
    loaded = load_recipe(write_recipe())
    assert loaded.recipe.training.batch_size == 16
    assert loaded.recipe.store.folder == Path(".retune")
    assert loaded.recipe.probes is None
    assert loaded.notes == ()


def test_a_recipe_cannot_be_changed_after_loading(write_recipe):
    loaded = load_recipe(write_recipe())
    with pytest.raises(ValidationError, match="frozen"):
        loaded.recipe.training.epochs = 1.0
    with pytest.raises(AttributeError):
        loaded.recipe = loaded.recipe


@pytest.mark.parametrize("written", ["2e-4", "2E-4", "2.0e-4", "0.0002", ".0002"])
def test_every_usual_way_to_write_a_number_is_that_number(write_recipe, written):
    in_file = load_recipe(write_recipe(f"training:\n  learning_rate: {written}\n"))
    in_override = load_recipe(write_recipe(), [f"training.learning_rate={written}"])
    assert in_file.recipe.training.learning_rate == 0.0002
    assert in_override.recipe == in_file.recipe


def test_a_whole_number_is_good_for_a_field_that_takes_any_number(write_recipe):
    loaded = load_recipe(write_recipe("training:\n  epochs: 2\n"))
    assert loaded.recipe.training.epochs == 2.0


def test_a_byte_order_mark_and_windows_line_ends_are_read_over(write_recipe):
    path = write_recipe()
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert load_recipe(path).recipe.name == "small"


@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_recipe_loads_without_a_note(shipped):
    loaded = load_recipe(shipped)
    assert loaded.notes == ()
    assert loaded.root == PROJECT


def test_the_demo_writes_every_key_that_a_recipe_has():
    document = load_recipe(DEMO).recipe.model_dump(exclude_unset=True)
    for path in LEAVES:
        section = document
        for key in path.split("."):
            assert key in section, f"{path} is not in the demo"
            section = section[key]


def test_the_demo_explains_every_key_in_a_comment():
    lines = [line.strip() for line in DEMO.read_text(encoding="utf-8").splitlines()]
    leaves = {path.rpartition(".")[2] for path in LEAVES}
    keys = [at for at, line in enumerate(lines) if line.partition(":")[0] in leaves]
    assert [lines[at] for at in keys if not lines[at - 1].startswith("#")] == []


def test_an_override_wins_over_the_file_and_a_later_one_over_an_earlier_one(write_recipe):
    path = write_recipe("training:\n  epochs: 2\n")
    assert load_recipe(path).recipe.training.epochs == 2
    assert load_recipe(path, ["training.epochs=3"]).recipe.training.epochs == 3
    several = ["training.epochs=3", "seed=1", "training.epochs=4"]
    assert load_recipe(path, several).recipe.training.epochs == 4


def test_an_override_repairs_a_value_that_is_wrong_in_the_file(write_recipe):
    path = write_recipe("training:\n  epochs: many\n")
    assert load_recipe(path, ["training.epochs=1"]).recipe.training.epochs == 1


def test_an_override_makes_the_section_that_the_file_leaves_out(write_recipe):
    loaded = load_recipe(write_recipe(), ["probes.file=p.yaml", "scoring.runtime.batch_size=4"])
    assert loaded.recipe.probes is not None
    assert loaded.recipe.probes.file == Path("p.yaml")
    assert loaded.recipe.scoring.runtime.batch_size == 4


def test_an_override_may_hold_a_list_a_whole_section_or_nothing(write_recipe):
    path = write_recipe("probes:\n  file: p.yaml\n")
    overrides = ["method.target_modules=[q_proj, v_proj]", "probes=", "merge={check_rows: 3}"]
    recipe = load_recipe(path, overrides).recipe
    assert recipe.method.target_modules == ("q_proj", "v_proj")
    assert recipe.probes is None
    assert recipe.merge.check_rows == 3


@settings(max_examples=40, deadline=None)
@given(path=st.sampled_from(LEAVES))
def test_overriding_with_the_value_it_has_changes_nothing(path):
    loaded = load_recipe(DEMO)
    section = loaded.recipe.model_dump(mode="json")
    for key in path.split("."):
        section = section[key]
    again = load_recipe(DEMO, [f"{path}={json.dumps(section)}"])
    assert again.recipe == loaded.recipe


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    epochs=st.floats(min_value=1e-6, max_value=1e6),
    rank=st.integers(min_value=1, max_value=512),
    question=st.text(st.characters(codec="utf-8", exclude_characters="{}\0"), max_size=20),
)
def test_a_recipe_loaded_twice_is_the_same(write_recipe, epochs, rank, question):
    # JSON is YAML: any text survives the way through the file.
    user = json.dumps(question + "{schema}{question}")
    more = f"training:\n  epochs: {epochs!r}\nmethod:\n  r: {rank}\nprompt:\n  user: {user}\n"
    first, second = (load_recipe(write_recipe(more, name=name)) for name in ("a.yaml", "b.yaml"))
    assert first.recipe == second.recipe
    assert first.recipe.training.epochs == epochs
    assert first.recipe.prompt.user == question + "{schema}{question}"


@pytest.mark.parametrize("mark", ["pyproject.toml", ".git", ".retune"])
def test_relative_paths_start_at_the_nearest_project_above(write_recipe, tmp_path, mark):
    path = write_recipe(name="project/conf/recipes/a.yaml")
    (tmp_path / "project" / mark).mkdir()
    loaded = load_recipe(path)
    assert loaded.root == tmp_path / "project"
    assert (
        loaded.resolve(Path(loaded.recipe.data.train[0].path))
        == tmp_path / "project/rows/train.jsonl"
    )


def test_without_a_project_relative_paths_start_at_the_recipe(write_recipe, tmp_path):
    assert load_recipe(write_recipe(name="alone/a.yaml")).root == tmp_path / "alone"


def test_where_paths_start_does_not_depend_on_the_working_folder(
    write_recipe, tmp_path, monkeypatch
):
    path = write_recipe(name="project/conf/a.yaml")
    (tmp_path / "project/.git").mkdir()
    outside = load_recipe(path)
    monkeypatch.chdir(tmp_path / "project" / "conf")
    inside = load_recipe(Path("a.yaml"))
    monkeypatch.chdir(tmp_path)
    upward = load_recipe(Path("project/../project/conf/a.yaml"))
    assert inside == outside == upward


def test_absolute_paths_and_the_home_folder_stay_what_they_are(write_recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    loaded = load_recipe(write_recipe())
    assert loaded.resolve(Path("/rows/a.jsonl")) == Path("/rows/a.jsonl")
    assert loaded.resolve(Path("~/a.jsonl")) == tmp_path / "home/a.jsonl"


def test_a_model_id_that_names_a_folder_is_the_folder(write_recipe, tmp_path):
    (tmp_path / "owner/model").mkdir(parents=True)
    loaded = load_recipe(write_recipe())
    assert loaded.resolve_model("owner/model") == str(tmp_path / "owner/model")
    assert loaded.resolve_model("./owner/model") == str(tmp_path / "owner/model")


def test_a_source_without_a_list_may_say_what_is_an_old_name_elsewhere(write_recipe):
    """`streaming` is what another trainer calls something, and a source's own key."""
    text = SMALL.replace("train: rows/train.jsonl", "train: {hub: owner/set, streaming: true}")
    path = write_recipe(text=text)
    (source,) = load_recipe(path).recipe.data.train
    assert (source.hub, source.streaming) == ("owner/set", True)


@pytest.mark.parametrize("name", ["gpt2", "google/gemma-3-4b-pt"])
def test_a_model_id_that_names_no_folder_is_a_name_on_the_hub(write_recipe, name):
    assert load_recipe(write_recipe()).resolve_model(name) == name


@pytest.mark.parametrize("name", ["./missing", "../missing", "/missing", "~/missing", "a/b/c"])
def test_a_model_id_that_reads_as_a_folder_must_exist(write_recipe, name):
    with pytest.raises(ConfigError, match=r"model\.id: there is no folder"):
        load_recipe(write_recipe()).resolve_model(name)


def test_a_model_id_beside_other_models_is_a_slip_unless_a_revision_says_hub(
    write_recipe, tmp_path
):
    (tmp_path / "assets/base_tiny").mkdir(parents=True)
    path = write_recipe()
    with pytest.raises(ConfigError, match="has no base_tyni; if this is a name on the hub"):
        load_recipe(path).resolve_model("assets/base_tyni")
    on_hub = load_recipe(path, ["model.revision=main"])
    assert on_hub.resolve_model("assets/base_tyni") == "assets/base_tyni"


def test_a_model_id_that_is_a_file_is_refused(write_recipe):
    with pytest.raises(ConfigError, match=r"recipe\.yaml is a file; expected the folder"):
        load_recipe(write_recipe()).resolve_model("recipe.yaml")


def test_loading_imports_no_heavy_library():
    source = str(Path(retune.__file__).parents[1])
    heavy = "{'torch', 'prefect', 'mlflow', 'transformers', 'numpy'}"
    code = (
        f"import sys; sys.path.insert(0, {source!r}); import retune.recipe; "
        f"print({heavy} & set(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert answer.stdout.strip() == b"set()"


VARIANTS = """
variants:
  tiny:
    training.max_steps: 5
    method: {kind: prefix, virtual_tokens: 3}
  seeded:
    seed: 3
    training.max_steps: 6
  wrong:
    training.max_step: 5
"""


def test_a_variant_sets_all_that_it_lists_and_a_later_one_wins(write_recipe):
    path = write_recipe(VARIANTS)
    assert load_recipe(path).recipe.training.max_steps is None
    recipe = load_recipe(path, ["variant=[tiny, seeded]"]).recipe
    assert (recipe.method.kind, recipe.seed, recipe.training.max_steps) == ("prefix", 3, 6)
    assert recipe.variant == ("tiny", "seeded")


def test_an_override_wins_over_a_variant_wherever_it_stands(write_recipe):
    overrides = ["training.max_steps=9", "variant=tiny", "method.virtual_tokens=4"]
    recipe = load_recipe(write_recipe(VARIANTS), overrides).recipe
    assert recipe.training.max_steps == 9
    assert recipe.method.virtual_tokens == 4


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("small", r"no variant the text 'small'; it has: tiny, seeded, wrong"),
        ("wrong", r"variants\.wrong\.training\.max_step: unknown key; did you mean"),
    ],
)
def test_a_variant_that_cannot_be_applied_is_a_problem_of_the_recipe(write_recipe, name, said):
    with pytest.raises(ConfigError, match=said):
        load_recipe(write_recipe(VARIANTS), [f"variant={name}"])
