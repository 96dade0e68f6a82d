"""Bad recipes and bad overrides: one clear message with place, path, found and expected."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retune.errors import ConfigError
from retune.recipe import load_recipe
from retune.recipe.fields import known_paths
from retune.recipe.trainers.old_names import OLD_NAMES

# The small recipe has 8 lines: what a test adds starts at line 9.
SECRETS = [
    "hf_abcdefghijklmnopqrstuvwxyzabcdefgh",
    "sk-proj-abcdefghijklmnop1234",
    "ghp_abcdefghijklmnop1234567890",
    "AKIAABCDEFGHIJKLMNOP",
    "postgresql://me:hunter2@db/mlflow",
    "https://me:p/w@host:5000",
    "https://host/?token=hunter2",
]


def _message(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_recipe(path, overrides)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (
            "training:\n  learning_rat: 1\n",
            "10: training.learning_rat: unknown key; did you mean training.learning_rate?",
        ),
        (
            "evaluations: 1\n",
            "9: evaluations: unknown key here; of this name there is training.evaluations",
        ),
        (
            "epochs: 1\n",
            "9: epochs: unknown key here; of this name there is training.epochs and dpo.epochs",
        ),
        (
            "gate:\n  min_gian: 1\n",
            "10: gate.min_gian: unknown key; did you mean gate.min_gain?",
        ),
        (
            "trainig:\n  epochs: 1\n",
            "9: trainig: unknown key; did you mean training?",
        ),
        (
            "merge:\n  zzz: 1\n",
            "10: merge.zzz: unknown key; expected one of max_shard_size, tolerance, check_rows",
        ),
        (
            "training:\n  batch_size: sixteen\n",
            "10: training.batch_size: found the text 'sixteen', expected a whole number, at",
        ),
        (
            "training:\n  batch_size: yes\n",
            "10: training.batch_size: found the text 'yes', expected a whole number, at least 1",
        ),
        (
            "training:\n  batch_size: true\n",
            "10: training.batch_size: found true, expected a whole number, at least 1",
        ),
        (
            "training:\n  batch_size: 16.0\n",
            "10: training.batch_size: found the number 16.0, expected a whole number, at least 1",
        ),
        (
            "training:\n  epochs: false\n",
            "10: training.epochs: found false, expected a number, above 0",
        ),
        (
            "training:\n  epochs: '3'\n",
            "10: training.epochs: found the text '3', expected a number, above 0 (remove the",
        ),
        (
            "training:\n  epochs: .nan\n",
            "10: training.epochs: found the number nan, expected a number, above 0",
        ),
        (
            "training:\n  keep_best: yes\n",
            "10: training.keep_best: found the text 'yes', expected true or false",
        ),
        (
            "training:\n  schedule: exponential\n",
            (
                "10: training.schedule: found the text 'exponential', expected one of "
                "cosine, linear, constant"
            ),
        ),
        (
            "training: fast\n",
            "9: training: found the text 'fast', expected a section with the keys max_steps",
        ),
        ("training:\n", "9: training: found nothing (null), expected a section"),
        (
            "split:\n  validation_fraction: 1.5\n",
            (
                "10: split.validation_fraction: found the number 1.5, expected a number, "
                "above 0 and under 1"
            ),
        ),
        (
            "split:\n  max_test_rows: few\n",
            (
                "10: split.max_test_rows: found the text 'few', expected a whole number, "
                "at least 1, or null"
            ),
        ),
        ("probes:\n  max_new_tokens: 3\n", "9: probes.file: is null, and so are counterfactuals"),
        ("probes:\n  file: ''\n", "10: probes.file: found '.', expected the path of a file"),
        (
            "probes:\n  file: 5\n",
            ("10: probes.file: found the number 5, expected a path, or null (put it in quotes)"),
        ),
        (
            "method:\n  kind: qlorra\n",
            "10: method.kind: found the text 'qlorra', expected one of lora, qlora, full",
        ),
        ("method:\n  kind: 3\n", "10: method.kind: found the number 3, expected one of lora, "),
        ("method: fast\n", "9: method: found the text 'fast', expected a section with the keys k"),
        ("method:\n", "9: method: found nothing (null), expected a section with the keys kind, r"),
        ("method:\n  rr: 3\n", "10: method.rr: unknown key; expected one of kind, r, alpha, "),
        ("method:\n  r: 0\n", "10: method.r: found the number 0, expected a whole number, at "),
        (
            "method:\n  kind: qlora\n  r: x\n",
            "11: method.r: found the text 'x', expected a whole number, at least 1",
        ),
        (
            "method:\n  kind: full\n  r: 3\n",
            "11: method.r: is no key of method for kind: full; remove it",
        ),
        ("method:\n  init: loftq\n", "10: method.init: loftq is not offered: it trains over a "),
        ("method:\n  init: x\n", "10: method.init: found the text 'x', expected one of true, g"),
        ("method:\n  modules_to_save: []\n", "10: method.modules_to_save: found an empty list"),
        (
            "method:\n  target_modules: some\n",
            "10: method.target_modules: found the text 'some', expected all-linear, or a list",
        ),
        (
            "method:\n  target_modules: '.*(q_proj'\n",
            "10: method.target_modules: is no regular expression (missing ), unterminated",
        ),
        (
            "training:\n  start_from: a\nmethod:\n  kind: prefix\n",
            "10: training.start_from: is set, but method.kind is prefix, which does not go on",
        ),
        (
            "training:\n  start_from: a\nhead: {}\n",
            "10: training.start_from: is set, but the recipe has a head",
        ),
        (
            "training:\n  start_from: a\nmethod:\n  init: gaussian\n",
            "10: training.start_from: is set, but method.init is gaussian",
        ),
        ("method:\n  target_modules: []\n", "10: method.target_modules: found an empty list"),
        ("method:\n  r: 8\n  r: 9\n", "11: method.r: stands twice (first at "),
        ("method:\n  ? [a, b]\n  : 1\n", "10: a key that is no plain word is not allowed"),
        (
            "method:\n  r: !!python/object:os.system x\n",
            "10: method.r: the tag 'tag:yaml.org,2002:python/object:os.system' is not allowed",
        ),
        ("method:\n  r: !!int ten\n", "10: method.r: cannot be read as int"),
        ('prompt:\n  system: "\\ud800"\n', r"10: prompt.system: found the text '\ud800', expected"),
        ('"\\ud800": 1\n', "9: a key that is no plain word is not allowed"),
        (
            "merge:\n  max_shard_size: 4\n",
            ("10: merge.max_shard_size: found the number 4, expected text such as 4GB or 500MB"),
        ),
    ],
)
def test_a_wrong_key_or_value_is_named_with_file_line_path_found_and_expected(
    write_recipe, more, line
):
    path = write_recipe(more)
    assert f"\n  {path}:{line}" in _message(path)


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (
            "split:\n  validation_fraction: 0.6\n  test_fraction: 0.4\n",
            "10: split.validation_fraction: validation_fraction + test_fraction is 1: nothing",
        ),
        ("prompt:\n  user: 'Say something'\n", "10: prompt.user: lacks {question}"),
        ("prompt:\n  user: '{question} {answer}'\n", "10: prompt.user: has {answer}"),
        ("prompt:\n  user: '{question} {query}'\n", "10: prompt.user: has {query}"),
        (
            "prompt:\n  user: '{question} {text}'\n",
            "10: prompt.user: has the unknown placeholder {text}",
        ),
        (
            "prompt:\n  user: '{question.__class__}'\n",
            "10: prompt.user: has the unknown placeholder",
        ),
        ("prompt:\n  user: '{question!r}'\n", "10: prompt.user: has a placeholder with a format"),
        ("prompt:\n  user: '{question'\n", "10: prompt.user: braces do not match"),
        ("prompt:\n  system: 'Tables: {schema}'\n", "10: prompt.system: has {schema}, but"),
        ("method:\n  kind: full\n", "10: method.kind: is full, but weights in 4 bits cannot be "),
        (
            "quantization:\n  kind: none\nmethod:\n  kind: qlora\n",
            "12: method.kind: is qlora, which is LoRA over a quantized base, but quantization.kind",
        ),
        ("method:\n  init: pissa\n", "10: method.init: is pissa, which is computed from weights"),
        (
            "quantization:\n  kind: none\nmethod:\n  r: 3\n  init: orthogonal\n",
            "12: method.r: 3 is odd, but init: orthogonal needs an even rank",
        ),
        (
            "method:\n  dropout: 0.1\n  target_parameters: [down_proj]\n",
            "10: method.dropout: is 0.1, but method.target_parameters adapts stacked weights",
        ),
        (
            "method:\n  dora: true\n  target_parameters: [down_proj]\n",
            "10: method.dora: is true, but method.target_parameters adapts stacked weights",
        ),
        (
            "quantization:\n  kind: none\nmethod:\n  init: olora\n  target_parameters: [x]\n",
            "12: method.init: is olora, which is computed from a layer's weights, but method.targ",
        ),
        (
            "method:\n  kind: bottleneck\n  after_attention: false\n  after_feed_forward: false\n",
            "11: method.after_attention: is false, and after_feed_forward too",
        ),
        (
            "training:\n  packing: true\nmethod:\n  kind: prompt\n",
            "10: training.packing: is true, but prompt puts learned inputs before a sequence, not",
        ),
        (
            "training:\n  gradient_checkpointing: true\nmethod:\n  kind: prefix\n",
            "10: training.gradient_checkpointing: is true, but method.kind is prefix: blocks",
        ),
        ("gate:\n  metric: probe_pass_rate\n", "10: gate.metric: is probe_pass_rate, but"),
        ("gate:\n  min_probe_pass_rate: 0.9\n", "10: gate.min_probe_pass_rate: is set, but"),
        ("gate:\n  metric: perplexity\n  min_value: 0.5\n", "11: gate.min_value: cannot bound"),
        (
            "retrain:\n  triggers:\n    drift: {log: a.jsonl, min_rows: 3, max_rows: 2}\n",
            "11: retrain.triggers.drift.min_rows: is 3, and max_rows, the most that are",
        ),
        ("gate:\n  min_gain: 5\n", "10: gate.min_gain: 5 is out of reach"),
        (
            "gate:\n  error: 0.001\n  decisions_per_test_set: 1000\n",
            "10: gate.error: 0.001 in 1000 parts",
        ),
        (
            "training:\n  batch_size: 16\n  gradient_accumulation: 3\n",
            "11: training.gradient_accumulation: 3 does not divide batch_size, 16",
        ),
        ("training:\n  warmup_steps: 2.5\n", "10: training.warmup_steps: 2.5 is neither"),
        (
            "training:\n  max_steps: 10\n  warmup_steps: 10\n",
            "11: training.warmup_steps: 10 is not less than max_steps, 10",
        ),
    ],
)
def test_keys_that_do_not_fit_together_are_named_where_they_stand(write_recipe, more, line):
    path = write_recipe(more)
    assert f"\n  {path}:{line}" in _message(path)


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("data.test=rows/train.jsonl", "data.test: is the file that train names"),
        ("data.columns.context=query", "data.columns.answer: context and answer are both read"),
        ("data.ignore=[query]", "data.ignore: names 'query', which is the answer in columns"),
        ("data.columns.system=query", "data.columns.answer: system and answer are both read"),
        ("limits.other_languages=0.1", "limits.other_languages: is set, but quality.languages"),
        ("prompt.template_from=a/b", "prompt.template_from: is given, and so is template"),
    ],
)
def test_data_that_do_not_fit_together_are_named(write_recipe, override, text):
    stated = ["data.columns.answer=query", "prompt.template=headings"]
    assert text in _message(write_recipe(), *stated, override)


def test_a_test_file_leaves_the_test_fraction_without_effect(write_recipe):
    overrides = ["data.test=t.jsonl", "split.validation_fraction=0.95"]
    assert load_recipe(write_recipe(), overrides).recipe.split.test_fraction == 0.1


def test_all_problems_are_reported_at_once_in_the_order_of_the_file(write_recipe):
    path = write_recipe("training:\n  epochs: none\n  batch_size: 0\n  x: 1\n", text=None)
    path.write_text(path.read_text().replace("  id: some/model", "  idd: some/model"))
    places = [line.split(": ")[:2] for line in _message(path, "foo", "seed=x").splitlines()[1:]]
    assert places == [
        [f"  {path}:5", "model.id"],
        [f"  {path}:6", "model.idd"],
        [f"  {path}:10", "training.epochs"],
        [f"  {path}:11", "training.batch_size"],
        [f"  {path}:12", "training.x"],
        ["  --set foo", "expected path=value, such as --set training.learning_rate=1.0e-4"],
        ["  --set seed", "seed"],
    ]


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("training.epochs", "--set training.epochs: expected path=value"),
        (
            "store.folder=s3:/bucket/x",
            "--set store.folder: store.folder: found 's3:/bucket/x', expected an address such as "
            "s3://bucket/prefix",
        ),
        ("=3", "--set : expected path=value"),
        ("training.epoch=3", "--set training.epoch: unknown key; did you mean training.epochs?"),
        ("trainig.epochs=3", "--set trainig.epochs: unknown key; did you mean training.epochs?"),
        (
            "training.epochs.first=3",
            "--set training.epochs.first: training.epochs is a single value",
        ),
        ("method.target_modules.0=q", "--set method.target_modules.0: method.target_modules is a"),
        ("training.epochs=[", "--set training.epochs: the value is broken YAML"),
        ("training.epochs=many", "--set training.epochs: training.epochs: found the text 'many'"),
        ("training={epochs: many}", "--set training: training.epochs: found the text 'many'"),
        ("method.r=!!python/name:os.system", "--set method.r: method.r: the tag"),
        ("name=123", "--set name: name: found the number 123, expected text such as"),
    ],
)
def test_a_wrong_override_is_named(write_recipe, override, line):
    assert f"\n  {line}" in _message(write_recipe(), override)


def test_an_override_below_what_is_no_section_in_the_file_is_named(write_recipe):
    message = _message(write_recipe("training: fast\n"), "training.epochs=3")
    assert (
        "--set training.epochs: the recipe has the text 'fast' where training should be" in message
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty; expected a recipe"),
        ("# only a comment\n", "is empty; expected a recipe"),
        ("- name: a\n", ":1: found a list at the top level; expected keys with values"),
        ("hello\n", ":1: found a single value at the top level"),
        ("name: a\n  data: b\n", ":2:7: broken YAML: mapping values are not allowed here"),
        ("name: a\ndata:\n\ttrain: b\n", ":3:1: broken YAML: found character '\\t'"),
        ("name: 'a\n", "broken YAML: found unexpected end of stream"),
        ("name: [a\n", "broken YAML"),
        ("name: a\n---\nname: b\n", ":2:1: broken YAML: but found another document"),
        ("a: &x 1\nb: *x\n", ":2:4: broken YAML: an alias (*name) is not allowed"),
        ("a: " + "[" * 2000, "nested too deep"),
        ("name: a\x07\n", ":1: the character"),
    ],
)
def test_a_file_that_is_no_recipe_is_named_with_line_and_reason(write_recipe, text, expected):
    path = write_recipe(text=text)
    message = _message(path)
    assert message.startswith(str(path))
    assert expected in message


def test_broken_yaml_says_what_to_do(write_recipe):
    assert "indent with spaces" in _message(write_recipe("training: a: b\n"))


def test_a_missing_file_a_folder_and_a_huge_file_are_named(tmp_path):
    assert _message(tmp_path / "no.yaml").startswith(f"there is no file {tmp_path}/no.yaml")
    assert _message(tmp_path).startswith(f"{tmp_path} is a folder")
    (tmp_path / "weights.bin").write_bytes(bytes(1_000_001))
    assert "no text file of under 1 MB" in _message(tmp_path / "weights.bin")


def test_a_file_that_is_no_utf8_is_named_with_its_line(write_recipe):
    path = write_recipe()
    path.write_bytes("name: a\nsystem: São\n".encode("latin-1"))
    assert _message(path) == (
        f"{path}:2: byte 0xe3 is no UTF-8 (the file seems to be in cp1252); save the file as UTF-8"
    )


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_refused_and_never_printed(write_recipe, secret):
    for more, overrides in [
        (f"tracking:\n  uri: {secret}\n", ()),
        (f"seed: {secret}\n", ()),
        (f"method:\n  target_modules: [q_proj, '{secret}']\n", ()),
        ("", (f"tracking.uri={secret}",)),
        ("", (f"prompt.system=before {secret} after",)),
        (f"model_name_or_path: {secret}\n", ()),
    ]:
        message = _message(write_recipe(more), *overrides)
        assert secret not in message
        assert "hunter2" not in message
    assert "environment" in message or "means model.id" in message


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_in_a_place_that_is_wrong_anyway_is_not_printed(write_recipe, secret):
    messages = [
        _message(write_recipe(f"model_nam: {secret}\n")),
        _message(write_recipe(f"'{secret}': 1\n")),
        _message(write_recipe(f"training: {secret}: a: b\n")),
        _message(write_recipe(), secret),
        _message(write_recipe(), f"{secret}=1"),
        _message(write_recipe(), f"seed=[{secret}"),
    ]
    assert not any(secret in message for message in messages)


@pytest.mark.parametrize("key", ["token", "hub_token", "api_key", "password"])
def test_a_key_that_asks_for_a_secret_is_sent_to_the_environment(write_recipe, key):
    message = _message(write_recipe(f"tracking:\n  {key}: hunter2\n"))
    assert f"tracking.{key}: is no key: secrets never stand in a recipe" in message
    assert "hunter2" not in message


def test_the_error_behind_the_message_holds_no_secret_either(write_recipe):
    secret = SECRETS[0]
    with pytest.raises(ConfigError) as caught:
        load_recipe(write_recipe(f"name: {secret}: b\n"))
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "uri",
    [
        "http://localhost:5000",
        "postgresql://mlflow@db/mlflow",
        "sqlite:///a.db",
        "https://host:5000/a/b",
    ],
)
def test_an_address_without_password_is_no_secret(write_recipe, uri):
    assert load_recipe(write_recipe(), [f"tracking.uri={uri}"]).recipe.tracking.uri == uri


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    keys=st.lists(st.sampled_from([*known_paths(), *OLD_NAMES]) | st.text(), max_size=3),
    value=VALUES,
    as_override=st.booleans(),
)
def test_whatever_is_written_gives_a_recipe_or_a_clear_error(
    write_recipe, keys, value, as_override
):
    written = json.dumps(value)
    more = "".join(f"{json.dumps(key)}: {written}\n" for key in dict.fromkeys(keys))
    nested = "".join(f"  {json.dumps(key)}: {written}\n" for key in dict.fromkeys(keys))
    try:
        if as_override:
            load_recipe(write_recipe(), [f"{key}={written}" for key in keys])
        else:
            load_recipe(write_recipe(more))
            load_recipe(write_recipe(f"training:\n{nested}"))
    except ConfigError as error:
        str(error).encode("utf-8")


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(junk=st.binary(max_size=60))
def test_whatever_bytes_a_file_holds_the_error_is_clear(write_recipe, junk):
    path = write_recipe()
    path.write_bytes(junk)
    assert _message(path)
