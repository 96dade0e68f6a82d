"""Names of older tutorials: understood, translated, shown."""

from __future__ import annotations

import pytest

from retune.errors import ConfigError
from retune.recipe import load_recipe
from retune.recipe.fields import known_paths
from retune.recipe.trainers.old_names import IN_SECTIONS, OLD_NAMES, entry_of


def _value(recipe, path):
    for key in path.split("."):
        recipe = getattr(recipe, key)
    return recipe


TRANSLATED = [
    ("per_device_train_batch_size", "8", "training.batch_size", 8),
    ("gradient_accumulation_steps", "4", "training.gradient_accumulation", 4),
    ("num_train_epochs", "2", "training.epochs", 2.0),
    ("max_grad_norm", "0.3", "training.max_gradient_norm", 0.3),
    ("optim", "paged_adamw_8bit", "training.optimizer", "paged_adamw_8bit"),
    ("neftune_noise_alpha", "5", "training.neftune_alpha", 5.0),
    ("logging_steps", "10", "training.runtime.log_every_steps", 10),
    ("lr_scheduler_type", "linear", "training.schedule", "linear"),
    ("lr_scheduler_type", "constant_with_warmup", "training.schedule", "constant"),
    ("warmup_ratio", "0.1", "training.warmup_steps", 0.1),
    ("evaluation_strategy", "no", "training.evaluations", 0),
    ("load_best_model_at_end", "false", "training.keep_best", False),
    ("metric_for_best_model", "eval_loss", "training.watch", "loss"),
    ("metric_for_best_model", "eval_f1", "training.watch", "macro_f1"),
    ("early_stopping_patience", "3", "training.early_stopping.patience", 3),
    ("early_stopping_threshold", "0.01", "training.early_stopping.min_gain", 0.01),
    ("group_by_length", "true", "training.row_order", "by_length"),
    ("train_sampling_strategy", "sequential", "training.row_order", "as_given"),
    ("lr_scheduler_type", "cosine_with_min_lr", "training.schedule", "cosine"),
    ("lr_scheduler_kwargs", "{min_lr_rate: 0.1}", "training.min_learning_rate_ratio", 0.1),
    ("min_lr_rate", "0.1", "training.min_learning_rate_ratio", 0.1),
    ("optim", "adamw_hf", "training.optimizer", "adamw_torch"),
    ("activation_checkpointing", "true", "training.gradient_checkpointing", True),
    ("assistant_only_loss", "true", "prompt.loss_on", "assistant"),
    ("completion_only_loss", "false", "prompt.loss_on", "all"),
    ("save_steps", "50", "training.checkpoint_every_steps", 50),
    ("max_seq_length", "256", "prompt.max_length", 256),
    ("lora_r", "4", "method.r", 4),
    ("lora_alpha", "8", "method.alpha", 8),
    ("lora_dropout", "0.05", "method.dropout", 0.05),
    ("use_dora", "true", "method.dora", True),
    ("init_lora_weights", "gaussian", "method.init", "gaussian"),
    ("load_in_4bit", "true", "quantization.kind", "nf4"),
    ("load_in_4bit", "false", "quantization.kind", "none"),
    ("bnb_4bit_use_double_quant", "false", "quantization.double", False),
    ("bnb_4bit_compute_dtype", "torch.bfloat16", "quantization.compute_dtype", "bfloat16"),
    ("torch_dtype", "float16", "model.dtype", "float16"),
    ("bf16", "true", "model.dtype", "bfloat16"),
    ("attn_implementation", "eager", "model.attention", "eager"),
]


@pytest.mark.parametrize(("old", "written", "new", "value"), TRANSLATED)
def test_an_old_name_in_the_training_section_means_the_key_of_today(
    write_recipe, old, written, new, value
):
    path = write_recipe(f"training:\n  {old}: {written}\n")
    loaded = load_recipe(path)
    assert _value(loaded.recipe, new) == value
    assert loaded.notes[0].startswith(f"training.{old} ({path}:10) -> {new} = ")


@pytest.mark.parametrize(("old", "written", "new", "value"), TRANSLATED)
def test_an_old_name_in_its_own_section_or_an_override_means_the_same(
    write_recipe, old, written, new, value
):
    section = new.partition(".")[0]
    at_home = write_recipe(f"{section}:\n  {old}: {written}\n") if section != "model" else None
    if at_home is not None:
        assert _value(load_recipe(at_home).recipe, new) == value
    overridden = load_recipe(write_recipe(), [f"{section}.{old}={written}"])
    assert _value(overridden.recipe, new) == value
    assert overridden.notes[0].startswith(f"{section}.{old} (--set {section}.{old}) -> {new} = ")


def test_an_old_name_at_the_top_level_is_understood(write_recipe):
    loaded = load_recipe(write_recipe("lora_alpha: 8\n"))
    assert loaded.recipe.method.alpha == 8


def test_peft_names_that_stood_among_the_training_arguments_move_to_the_method(write_recipe):
    loaded = load_recipe(write_recipe("training:\n  bias: all\n  modules_to_save: [lm_head]\n"))
    assert (loaded.recipe.method.bias, loaded.recipe.method.modules_to_save) == (
        "all",
        ("lm_head",),
    )


def test_model_name_or_path_names_the_model(write_recipe):
    path = write_recipe()
    path.write_text(path.read_text().replace("  id:", "  model_name_or_path:"))
    loaded = load_recipe(path)
    assert loaded.recipe.model.id == "some/model"
    assert loaded.notes == (f"model.model_name_or_path ({path}:6) -> model.id = some/model",)


@pytest.mark.parametrize(
    ("old", "written", "reason"),
    [
        ("tokenizer", "some/model", "comes with model.id"),
        ("group_by_length", "false", "off already"),
        ("overwrite_output_dir", "true", "store.folder"),
        ("output_dir", "out", "store.folder"),
        ("dataset_kwargs", "{skip_prepare_dataset: true}", "data.columns and prompt"),
        ("evaluation_strategy", "epoch", "spread evenly"),
        ("fp16", "false", "model.dtype says the type"),
        ("bnb_4bit_quant_type", "nf4", "quantization.kind"),
        ("task_type", "CAUSAL_LM", "only task type"),
    ],
)
def test_an_old_name_without_equivalent_is_ignored_with_its_reason(
    write_recipe, old, written, reason
):
    path = write_recipe(f"training:\n  {old}: {written}\n")
    loaded = load_recipe(path)
    assert loaded.recipe == load_recipe(write_recipe()).recipe
    assert len(loaded.notes) == 1
    assert loaded.notes[0].startswith(f"training.{old} ({path}:10) -> ignored: ")
    assert reason in loaded.notes[0]


def test_the_batch_of_one_pass_becomes_the_batch_of_one_step(write_recipe):
    more = "training:\n  per_device_train_batch_size: 2\n  gradient_accumulation_steps: 4\n"
    training = load_recipe(write_recipe(more)).recipe.training
    # 2 rows per pass, 4 passes per step: 8 rows per step, in passes of 2 as before.
    assert (training.batch_size, training.gradient_accumulation) == (8, 4)
    assert training.rows_per_pass == 2


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (
            "method:\n  lora_alpha: 8\n  alpha: 16\n",
            ("method.lora_alpha: means method.alpha, but method.alpha is given too"),
        ),
        (
            "method:\n  alpha: 16\ntraining:\n  lora_alpha: 16\n",
            ("training.lora_alpha: means method.alpha, but method.alpha is given too"),
        ),
        (
            "method:\n  lora_r: 8\n  lora_rank: 4\n",
            ("method.lora_rank: means method.r, but method.lora_r is given too"),
        ),
    ],
)
def test_an_old_and_a_new_name_for_one_key_are_an_error(write_recipe, more, text):
    with pytest.raises(ConfigError, match="remove one") as caught:
        load_recipe(write_recipe(more))
    assert text in str(caught.value)


def test_an_old_and_a_new_name_among_the_overrides_are_an_error(write_recipe):
    with pytest.raises(ConfigError, match=r"which --set method\.alpha sets too"):
        load_recipe(write_recipe(), ["method.alpha=8", "training.lora_alpha=8"])


def test_an_override_by_a_new_name_wins_over_an_old_name_in_the_file(write_recipe):
    path = write_recipe("training:\n  lora_alpha: 8\n")
    assert load_recipe(path, ["method.alpha=16"]).recipe.method.alpha == 16


def test_old_names_in_a_section_that_an_override_brings_are_understood(write_recipe):
    loaded = load_recipe(write_recipe(), ["method={lora_r: 4, lora_alpha: 8}"])
    assert (loaded.recipe.method.r, loaded.recipe.method.alpha) == (4, 8)
    assert loaded.notes[0] == "method.lora_r (--set method) -> method.r = 4"


def test_a_note_is_one_line(write_recipe):
    loaded = load_recipe(write_recipe(), ['training.train_file="a\\nb"'])
    assert loaded.notes == (
        "training.train_file (--set training.train_file) -> data.train = 'a\\nb'",
    )


def test_two_old_names_that_say_the_same_agree(write_recipe):
    loaded = load_recipe(write_recipe("bf16: true\ntorch_dtype: bfloat16\nfp16: false\n"))
    assert loaded.recipe.model.dtype == "bfloat16"
    assert len(loaded.notes) == 3


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ("load_in_8bit: true\n", "8-bit weights are not offered"),
        ("bnb_4bit_quant_type: fp4\n", "nf4 is the only 4-bit type"),
        ("task_type: SEQ_CLS\n", "add a section head"),
        ("push_to_hub: true\n", "nothing is uploaded"),
        ("warmup_ratio: 3\n", "expected a part of all steps"),
        ("load_in_4bit: maybe\n", "expected true or false"),
    ],
)
def test_an_old_value_that_cannot_be_given_is_an_error_and_not_dropped(write_recipe, more, text):
    with pytest.raises(ConfigError) as caught:
        load_recipe(write_recipe(more))
    assert f":9: {more.partition(':')[0]}: " in str(caught.value)
    assert text in str(caught.value)


def test_a_token_under_an_old_name_is_not_shown(write_recipe):
    """Even one that has no known form."""
    with pytest.raises(ConfigError, match="secrets are read from the environment") as caught:
        load_recipe(write_recipe("use_auth_token: correct-horse-battery\n"))
    assert "correct-horse" not in str(caught.value)


def test_a_wrong_value_under_an_old_name_is_reported_at_its_line(write_recipe):
    path = write_recipe("training:\n  lora_alpha: high\n")
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    assert f"{path}:10: method.alpha: found the text 'high'" in str(caught.value)


def test_what_is_called_as_ever_moves_to_its_section(write_recipe):
    recipe = load_recipe(write_recipe("training:\n  seed: 42\n  reasoning_effort: low\n")).recipe
    assert (recipe.seed, recipe.prompt.reasoning_effort) == (42, "low")


def test_a_lowest_rate_becomes_a_part_of_the_highest(write_recipe):
    more = "training:\n  learning_rate: 2.0e-4\n  lr_scheduler_kwargs: {min_lr: 2.0e-5}\n"
    training = load_recipe(write_recipe(more)).recipe.training
    # 0.00002 / 0.0002
    assert training.min_learning_rate_ratio == pytest.approx(0.1)


def test_arguments_of_learned_inputs_mean_the_keys_of_today(write_recipe):
    more = "method:\n  kind: p_tuning\n  num_virtual_tokens: 8\n  encoder_hidden_size: 32\n"
    more += "  encoder_reparameterization_type: LSTM\n  token_dim: 64\n"
    method = load_recipe(write_recipe(more)).recipe.method
    assert (method.virtual_tokens, method.encoder_size, method.encoder) == (8, 32, "lstm")


def test_the_encoder_of_prefix_tuning_is_called_otherwise(write_recipe):
    more = "method:\n  kind: prefix\n  encoder_hidden_size: 32\n"
    with pytest.raises(ConfigError, match=r"is called method\.projection_size"):
        load_recipe(write_recipe(more))


@pytest.mark.slow
def test_no_argument_of_the_libraries_is_missing():
    """Each is known at the top and in the sections for it: a key, an old name, or a secret."""
    arguments = _arguments_of_the_libraries() - {"hub_token", "self", "kwargs", "model"}
    assert len(arguments) > 300
    homes = ("", "training.", "method.", "dpo.", "grpo.")
    known = set(known_paths())
    missing = [
        home + name
        for home in homes
        for name in sorted(arguments)
        if home + name not in known and entry_of((home + name).split(".")) is None
    ]
    assert missing == []


def _arguments_of_the_libraries() -> set[str]:
    from dataclasses import fields
    from inspect import signature

    import peft
    import transformers
    import trl

    configs = (
        transformers.TrainingArguments,
        trl.SFTConfig,
        trl.DPOConfig,
        trl.GRPOConfig,
        trl.ModelConfig,
        trl.ScriptArguments,
        peft.LoraConfig,
        peft.PrefixTuningConfig,
        peft.PromptTuningConfig,
        peft.PromptEncoderConfig,
    )
    calls = (
        transformers.BitsAndBytesConfig,
        transformers.Mxfp4Config,
        transformers.EarlyStoppingCallback,
        trl.SFTTrainer,
    )
    return {field.name for config in configs for field in fields(config)} | {
        name for call in calls for name in signature(call).parameters
    }


def test_every_old_name_leads_to_a_key_of_today_or_says_why_not():
    above = {path.rpartition(".")[0] for path in known_paths()}
    leaves = set(known_paths()) - above
    for name, entry in {**OLD_NAMES, **IN_SECTIONS}.items():
        if entry.new is None:
            assert entry.why or entry.convert, name
        else:
            assert entry.new in leaves, name
            # These are called as ever, but stood in another section.
            assert entry.new.rpartition(".")[2] != name or entry.new in {
                "prompt.max_length",
                "prompt.reasoning_effort",
                "prompt.template",
                "method.bias",
                "method.modules_to_save",
                "method.r",
                "method.target_modules",
                "method.target_parameters",
                "method.encoder_dropout",
                "model.dtype",
                "model.revision",
                "scoring.max_new_tokens",
                "seed",
                "training.adam_beta1",
                "training.adam_beta2",
                "training.adam_epsilon",
                "training.gradient_checkpointing",
                "training.learning_rate",
                "training.max_steps",
                "training.optimizer",
                "training.packing",
                "training.tf32",
                "training.torch_compile",
                "training.warmup_steps",
                "training.weight_decay",
            }
