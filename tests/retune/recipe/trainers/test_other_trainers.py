"""Files of other trainers: each name is translated, passed over with a reason, or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retune.errors import ConfigError
from retune.recipe import load_recipe
from retune.recipe.fields import known_paths, suggestion
from retune.recipe.loading import LoadedRecipe
from retune.recipe.trainers.old_names import entry_of

WriteRecipe = Callable[..., Path]

HEAD = "name: a\nregistry: {model_name: a}\n"
TAIL = "model_name_or_path: some/model\ndataset_name: some/rows\n"

# As they stand in the files that both projects ship as examples, and in their schemas.
AXOLOTL = """
base_model model_type tokenizer_type trust_remote_code load_in_8bit load_in_4bit strict datasets
dataset_prepared_path val_set_size output_dir adapter lora_model_dir sequence_len sample_packing
eval_sample_packing pad_to_sequence_len lora_r lora_alpha lora_dropout lora_target_modules
lora_target_linear lora_modules_to_save lora_fan_in_fan_out wandb_project wandb_entity wandb_watch
wandb_name wandb_log_model wandb_run_id gradient_accumulation_steps micro_batch_size num_epochs
optimizer lr_scheduler learning_rate train_on_inputs group_by_length bf16 fp16 tf32
gradient_checkpointing gradient_checkpointing_kwargs early_stopping_patience resume_from_checkpoint
local_rank logging_steps xformers_attention flash_attention s2_attention sdp_attention warmup_steps
warmup_ratio evals_per_epoch saves_per_epoch eval_steps save_steps eval_table_size
eval_max_new_tokens debug deepspeed weight_decay fsdp fsdp_config special_tokens tokens
chat_template chat_template_jinja hub_model_id hub_strategy plugins liger_rope
liger_rms_norm liger_glu_activation
liger_fused_linear_cross_entropy rl rl_beta test_datasets pretraining_dataset max_steps seed
neftune_noise_alpha peft_use_dora peft_use_rslora peft_layers_to_transform relora_steps
lora_on_cpu loraplus_lr_ratio unfrozen_parameters lora_mlp_kernel lora_qkv_kernel lora_o_kernel
cut_cross_entropy max_grad_norm cosine_min_lr_ratio adam_beta1 adam_beta2 adam_epsilon
save_total_limit save_safetensors auto_resume_from_checkpoints dataset_processes
dataset_exact_deduplication shuffle_merged_datasets default_system_message eot_tokens
added_tokens_overrides revision_of_model tokenizer_config base_model_config is_llama_derived_model
ddp_timeout ddp_bucket_cap_mb torch_compile torch_compile_backend flash_attn_cross_entropy
flash_attn_rms_norm unsloth_cross_entropy_loss unsloth_lora_mlp mlflow_tracking_uri
mlflow_experiment_name hf_mlflow_log_artifacts use_tensorboard comet_project_name
sequence_parallel_degree load_best_model_at_end metric_for_best_model greater_is_better
remove_unused_columns dataloader_num_workers dataloader_pin_memory dataloader_prefetch_factor
eval_batch_size do_bench_eval loss_watchdog_threshold loss_watchdog_patience gpu_memory_limit
low_cpu_mem_usage max_memory bnb_config_kwargs gptq peft torchdistx_path lr_quadratic_warmup
resize_token_embeddings_to_32x save_only_model hub_revision use_ray ray_num_workers qat
"""
LLAMA_FACTORY = """
model_name_or_path adapter_name_or_path trust_remote_code stage do_train finetuning_type lora_rank
lora_alpha lora_dropout lora_target additional_target deepspeed dataset dataset_dir template
cutoff_len max_samples overwrite_cache preprocessing_num_workers dataloader_num_workers output_dir
logging_steps save_steps plot_loss overwrite_output_dir save_only_model report_to
per_device_train_batch_size gradient_accumulation_steps learning_rate num_train_epochs
lr_scheduler_type warmup_ratio bf16 ddp_timeout resume_from_checkpoint eval_dataset val_size
per_device_eval_batch_size eval_strategy eval_steps quantization_bit quantization_method
quantization_type double_quantization upcast_layernorm flash_attn rope_scaling shift_attn
use_unsloth use_unsloth_gc enable_liger_kernel moe_aux_loss_coef disable_gradient_checkpointing
mask_history train_on_prompt packing neat_packing streaming buffer_size mix_strategy
interleave_probs tool_format tokenized_path freeze_trainable_layers freeze_trainable_modules
freeze_extra_modules loraplus_lr_ratio use_rslora use_dora pissa_init pissa_iter pissa_convert
create_new_adapter pref_beta pref_loss pref_ftx dpo_label_smoothing ref_model reward_model
use_galore galore_rank use_apollo use_badam badam_mode use_adam_mini use_muon pure_bf16
use_llama_pro compute_accuracy disable_shuffling early_stopping_steps
include_effective_tokens_per_second use_swanlab swanlab_project predict_with_generate
max_new_tokens top_p temperature do_sample export_dir export_size infer_backend infer_dtype
cache_dir use_fast_tokenizer resize_vocab add_tokens add_special_tokens model_revision
default_system enable_thinking optim max_grad_norm weight_decay seed fp16
preprocessing_batch_size media_dir
image_max_pixels video_maxlen ray_run_name resources_per_worker print_param_status
"""
UNSLOTH = """
model_name max_seq_length dtype load_in_4bit dataset r lora_alpha lora_dropout bias
use_gradient_checkpointing random_state use_rslora loftq_config per_device_train_batch_size
gradient_accumulation_steps warmup_steps max_steps learning_rate optim weight_decay
lr_scheduler_type seed output_dir report_to logging_steps save_model save_method save_gguf save_path
push_model push_gguf hub_path full_finetuning fast_inference gpu_memory_utilization max_lora_rank
train_on_responses_only target_modules
"""
NAMES = sorted({*AXOLOTL.split(), *LLAMA_FACTORY.split(), *UNSLOTH.split()})


def load(write: WriteRecipe, more: str, *overrides: str) -> LoadedRecipe:
    """Load a flat file that names a model and rows."""
    return load_recipe(write(text=HEAD + TAIL + more), overrides)


def value(loaded: LoadedRecipe, path: str) -> Any:
    found: Any = loaded.recipe
    for key in path.split("."):
        found = getattr(found, key)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_known_at_the_top(name: str) -> None:
    """It is a key of today or an entry, and no entry is empty."""
    entry = entry_of([name])
    assert name in known_paths() or entry is not None
    assert entry is None or entry.new or entry.why or entry.convert


class TestGuesses:
    @pytest.mark.parametrize(
        "name",
        ["datasets", "special_tokens", "plot_loss", "batch", "reward_fn", "num_samples", "lora"],
    )
    def test_no_key_of_another_section_is_guessed_by_letters(self, name: str) -> None:
        """`datasets` has letters in common with `data.databases`, and means something else."""
        assert suggestion([name]) is None

    @given(st.text(alphabet="abdeglmnoprst_", min_size=2, max_size=14))
    def test_a_guess_stays_in_its_section(self, name: str) -> None:
        """Whatever is written: a guess at the top has no dot, one in training stands there."""
        top, inner = suggestion([name]), suggestion(["training", name])
        assert top is None or "." not in top
        assert inner is None or inner.rpartition(".")[0] == "training"

    @pytest.mark.parametrize(
        ("path", "meant"),
        [
            ("trainig.epochs", "training.epochs"),
            ("training.epoch", "training.epochs"),
            ("trainig.epoch", "training.epochs"),
            ("scoring.runtime.bath_size", "scoring.runtime.batch_size"),
            ("modl", "model"),
        ],
    )
    def test_a_slip_is_told_key_by_key(self, path: str, meant: str) -> None:
        """Also where the section itself is misspelt."""
        assert suggestion(path.split(".")) == meant


class TestTranslated:
    @pytest.mark.parametrize(
        ("more", "path", "expected"),
        [
            ("learning_rate: 0.001", "training.learning_rate", 0.001),
            ("weight_decay: 0.1", "training.weight_decay", 0.1),
            ("max_steps: -1", "training.max_steps", None),
            ("max_steps: 5", "training.max_steps", 5),
            ("warmup_steps: 0", "training.warmup_steps", 0.0),
            ("adapter: lora", "method.kind", "lora"),
            ("adapter:", "method.kind", "full"),
            ("finetuning_type: full", "method.kind", "full"),
            ("lora_target: all", "method.target_modules", "all-linear"),
            ("lora_target: q_proj, v_proj", "method.target_modules", ("q_proj", "v_proj")),
            ("lora_target_modules: [q_proj]", "method.target_modules", ("q_proj",)),
            ("additional_target: a,b", "method.modules_to_save", ("a", "b")),
            ("sequence_len: 64", "prompt.max_length", 64),
            ("cutoff_len: 64", "prompt.max_length", 64),
            ("train_on_inputs: true", "prompt.loss_on", "all"),
            ("train_on_inputs: false", "prompt.loss_on", "answer"),
            ("train_on_prompt: true", "prompt.loss_on", "all"),
            ("mask_history: false", "prompt.loss_on", "assistant"),
            ("val_set_size: 0.2", "split.validation_fraction", 0.2),
            ("val_size: 0.0", "split.validation_fraction", 0.1),
            ("max_samples: 100", "split.max_train_rows", 100),
            ("num_epochs: 2\nevals_per_epoch: 3", "training.evaluations", 6),
            ("micro_batch_size: 2\ngradient_accumulation_steps: 4", "training.batch_size", 8),
            ("quantization_bit: 4", "quantization.kind", "nf4"),
            ("quantization_bit:", "quantization.kind", "none"),
            ("flash_attn: fa2", "model.attention", "flash_attention_2"),
            ("sdp_attention: true", "model.attention", "sdpa"),
            ("bf16: auto", "model.dtype", "auto"),
            ("bf16: full", "model.dtype", "bfloat16"),
            ("gradient_checkpointing: offload", "training.gradient_checkpointing", True),
            ("use_gradient_checkpointing: unsloth", "training.gradient_checkpointing", True),
            ("random_state: 3407", "seed", 3407),
            ("chat_template: mine.jinja", "prompt.template", "mine.jinja"),
            ("template: mine.jinja", "prompt.template", "mine.jinja"),
            ("chat_template: jinja\nchat_template_jinja: a.jinja", "prompt.template", "a.jinja"),
            ("chat_template: tokenizer_default", "prompt.template", None),
            (
                "lora_target_linear: true\nlora_target_modules: [q_proj]",
                "method.target_modules",
                "all-linear",
            ),
            (
                "lora_target_modules: '.*[.]layers[.][0-9]{1,2}[.](q|v)_proj'",
                "method.target_modules",
                ".*[.]layers[.][0-9]{1,2}[.](q|v)_proj",
            ),
            ("lora_target: 'q_proj, v_proj'", "method.target_modules", ("q_proj", "v_proj")),
            ("lora_modules_to_save: []", "method.modules_to_save", None),
            ("modules_to_save: []", "method.modules_to_save", None),
            ("adapter_name_or_path: [out/a]", "training.start_from", Path("out/a")),
            ("dataset_text_field: conteudo", "data.columns.answer", "conteudo"),
            ("revision: abc", "model.revision", "abc"),
            ("disable_shuffling: true", "training.row_order", "as_given"),
            ("dataset_exact_deduplication: true", "quality.drop_duplicates", "exact"),
        ],
    )
    def test_a_name_at_the_top_means_a_key_of_today(
        self, write_recipe: WriteRecipe, more: str, path: str, expected: object
    ) -> None:
        """With the value that it stands for, and a note for each."""
        stated = ("quantization.kind=none",) if path != "quantization.kind" else ()
        loaded = load(write_recipe, more, *stated)
        assert value(loaded, path) == expected
        for line in more.splitlines():
            assert any(note.startswith(line.partition(":")[0]) for note in loaded.notes)

    @pytest.mark.parametrize(
        "name", ["fp16", "wandb_project", "deepspeed", "lora_r", "local_rank", "eval_dataset"]
    )
    def test_null_asks_for_nothing(self, write_recipe: WriteRecipe, name: str) -> None:
        """Files of Axolotl list names with nothing behind them."""
        loaded = load(write_recipe, f"{name}:\n")
        assert loaded.recipe == load(write_recipe, "").recipe
        assert loaded.notes[-1].endswith("-> ignored: null asks for nothing")

    def test_two_sections_of_one_batch_are_counted_together(
        self, write_recipe: WriteRecipe
    ) -> None:
        """Rows of a pass at the top, parts under training: 2 x 4 = 8 rows of a step."""
        more = "per_device_train_batch_size: 2\ntraining: {gradient_accumulation_steps: 4}\n"
        assert load(write_recipe, more).recipe.training.batch_size == 8


class TestImplied:
    """What a name says beside its own key there, and a recipe would take otherwise."""

    @pytest.mark.parametrize(
        ("more", "kind", "quantized"),
        [
            ("adapter: lora\n", "lora", "none"),
            ("adapter: lora\nload_in_4bit: true\n", "lora", "nf4"),
            ("adapter: qlora\nload_in_4bit: true\n", "qlora", "nf4"),
            ("adapter:\nload_in_4bit: false\n", "full", "none"),
            ("micro_batch_size: 2\n", "full", "none"),
            ("micro_batch_size: 2\nmethod: {kind: lora}\n", "lora", "nf4"),
            ("finetuning_type: lora\n", "lora", "none"),
            ("finetuning_type: lora\nquantization_bit: 4\n", "lora", "nf4"),
            ("finetuning_type: lora\nquantization: {kind: nf4}\n", "lora", "nf4"),
        ],
    )
    def test_what_is_trained_over_what(
        self, write_recipe: WriteRecipe, more: str, kind: str, quantized: str
    ) -> None:
        """Others quantize where they are told to; Axolotl without an adapter trains all weights."""
        loaded = load(write_recipe, more)
        assert (loaded.recipe.method.kind, loaded.recipe.quantization.kind) == (kind, quantized)

    def test_a_rank_without_scale(self, write_recipe: WriteRecipe) -> None:
        """LLaMA-Factory then takes twice the rank; a stated scale wins."""
        assert value(load(write_recipe, "lora_rank: 8\n"), "method.alpha") == 16
        stated = load(write_recipe, "lora_rank: 8\nlora_alpha: 8\n")
        assert value(stated, "method.alpha") == 8


class TestSources:
    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            ("{path: a.jsonl, type: alpaca}", ("a.jsonl", None, "instruction")),
            ("{path: own/set, type: sharegpt, split: x}", (None, "own/set", "conversations")),
            ("{path: json, data_files: a.json, type: completion}", ("a.json", None, "text")),
            ("{path: ./rows, ds_type: json, data_files: a.json}", ("rows/a.json", None, None)),
            ("{path: a.jsonl, type: chat_template}", ("a.jsonl", None, "messages")),
            (
                "{path: a.jsonl, type: chat_template, field_messages: conversations, "
                "message_property_mappings: {role: from, content: value}}",
                ("a.jsonl", None, "conversations"),
            ),
        ],
    )
    def test_a_list_of_data_sets(
        self, write_recipe: WriteRecipe, written: str, expected: tuple[str | None, ...]
    ) -> None:
        """Files, sets of the hub, and what their type is called here."""
        text = f"{HEAD}base_model: some/model\ndatasets:\n  - {written}\n"
        source = load_recipe(write_recipe(text=text)).recipe.data.train[0]
        path = None if source.path is None else source.path.as_posix()
        assert (path, source.hub, source.format) == expected

    def test_columns_of_a_type_of_ones_own(self, write_recipe: WriteRecipe) -> None:
        """Fields become columns."""
        kind = "{field_instruction: p, field_input: c, field_output: r}"
        text = f"{HEAD}base_model: m/m\ndatasets: [{{path: a.csv, type: {kind}}}]\n"
        source = load_recipe(write_recipe(text=text)).recipe.data.train[0]
        assert source.columns is not None
        assert (source.columns.question, source.columns.context) == ("p", "c")
        assert source.columns.answer == "r"

    @pytest.mark.parametrize(
        ("written", "says"),
        [
            ("{path: a.jsonl, type: oasst}", "type 'oasst' is none of alpaca"),
            ("{path: a.jsonl, type: {format: '[INST] {instruction}'}}", "prompt.user"),
            ("{path: a.jsonl, type: alpaca, shards: 4}", "shards is not offered"),
            ("{path: a.jsonl, type: chat_template, chat_template: chatml}", "prompt.template"),
            ("{path: a.jsonl, type: chat_template, roles_to_train: [user]}", "prompt.loss_on"),
            ("{type: alpaca}", "entry 1 has no path"),
            ("{path: a.jsonl, type: [alpaca]}", "type ['alpaca'] is none of alpaca"),
            ("{path: 's3://b/a.jsonl', type: alpaca}", "found s3://b/a.jsonl, an address"),
            (
                "{path: a.jsonl, type: chat_template, train_on_eos: none}",
                "the end of each answer that is learned is learned too",
            ),
        ],
    )
    def test_what_a_source_cannot_say_is_refused(
        self, write_recipe: WriteRecipe, written: str, says: str
    ) -> None:
        """By name, with what to write."""
        text = f"{HEAD}base_model: m/m\ndatasets: [{written}]\n"
        with pytest.raises(ConfigError) as caught:
            load_recipe(write_recipe(text=text))
        found = str(caught.value)
        assert "has 1 problem:" in found
        assert ":4: datasets: " in found
        assert says in found

    @pytest.mark.parametrize("kind", ["chat_template", "sharegpt"])
    def test_turns_of_a_chat_are_all_learned(self, write_recipe: WriteRecipe, kind: str) -> None:
        """So it is with these types there; a recipe's own word wins."""
        text = f"{HEAD}base_model: m/m\ndatasets: [{{path: a.json, type: {kind}}}]\n"
        assert load_recipe(write_recipe(text=text)).recipe.prompt.loss_on == "assistant"
        stated = load_recipe(write_recipe(text=text + "prompt: {loss_on: answer}\n"))
        assert stated.recipe.prompt.loss_on == "answer"

    @pytest.mark.parametrize(
        ("more", "loss_on"),
        [
            ("stage: sft\n", "assistant"),
            ("stage: sft\nmask_history: true\n", "answer"),
            ("stage: sft\ntrain_on_prompt: true\n", "all"),
            ("stage: pt\n", "answer"),
            ("stage: sft\nprompt: {loss_on: answer}\n", "answer"),
        ],
    )
    def test_answers_of_a_chat_are_all_learned(
        self, write_recipe: WriteRecipe, more: str, loss_on: str
    ) -> None:
        """LLaMA-Factory learns each answer of a chat, unless its file says otherwise."""
        assert value(load(write_recipe, more), "prompt.loss_on") == loss_on

    @pytest.mark.parametrize("written", ["5", "{a: b}", "[{path: a.jsonl}]"])
    def test_what_is_no_name_of_a_set_is_refused(
        self, write_recipe: WriteRecipe, written: str
    ) -> None:
        """As what it is, not as a name that another program knows."""
        text = f"{HEAD}model_name_or_path: m/m\ndataset: {written}\n"
        with pytest.raises(ConfigError, match="dataset: found no name or list of names; write"):
            load_recipe(write_recipe(text=text))

    def test_a_name_of_another_programs_list_is_refused(self, write_recipe: WriteRecipe) -> None:
        """A file and a set of the hub can be told from it."""
        head = f"{HEAD}model_name_or_path: m/m\n"
        found = load_recipe(write_recipe(text=f"{head}dataset: a.jsonl,own/set\n")).recipe.data
        assert [str(each.path or each.hub) for each in found.train] == ["a.jsonl", "own/set"]
        with pytest.raises(ConfigError, match=r"dataset: found 'alpaca_en_demo', an entry of a l"):
            load_recipe(write_recipe(text=f"{head}dataset: alpaca_en_demo\n"))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("special_tokens: {eos_token: '</s>'}", "has eos_token: the special tokens are those of"),
        ("eos_token: <|im_end|>", "the special tokens are those of the model's own tokenizer"),
        ("tokens: ['<a>']", "no tokens are added to a model"),
        ("add_special_tokens: <a>", "no tokens are added to a model"),
        ("tokenizer: another/model", "but the tokenizer is the one that comes with model.id"),
        ("tokenizer_config: another/model", "the tokenizer is the one that comes with model.id"),
        ("chat_template: chatml", "of another trainer's own list"),
        ("template: llama3", "of another trainer's own list"),
        ("stage: dpo", "write dpo: {pairs: FILE}"),
        ("rl: kto", "by dpo: {pairs: FILE}"),
        ("rl: grpo", "rewards are learned by grpo: {}"),
        ("trl: {num_generations: 4}", "rewards are learned by grpo"),
        ("template: default", "of another trainer's own list"),
        ("chat_template: '{% for m in messages %}{% endfor %}'", "found a template's text: write"),
        ("adapter_name_or_path: [a, b]", "names several adapters"),
        ("dataset_mixer: {own/set: 1.0}", "write the source by hand"),
        ("beta: 0.1", "write dpo: {pairs: FILE}"),
        ("pref_beta: 0.1", "write it into dpo"),
        ("num_generations: 8", "write grpo: {answers:"),
        ("loraplus_lr_ratio: 16", "would change the training"),
        ("unfrozen_parameters: [lm_head]", "would change the training"),
        ("finetuning_type: freeze", "write method.kind"),
        ("quantization_bit: 8", "write quantization.kind: nf4"),
        ("load_in_8bit: true", "8-bit weights are not offered"),
        ("val_set_size: 200", "split.max_validation_rows"),
        ("plugins: [axolotl.integrations.spectrum.SpectrumPlugin]", "is not offered"),
        ("sequence_parallel_degree: 4", "one process trains on one device"),
        ("use_galore: true", "this optimizer is not offered"),
        ("rope_scaling: linear", "remove the key"),
        ("reward_model: true", "rewards are learned by grpo"),
        ("evals_per_epoch: 4", "write training.evaluations"),
        # What no number and no name can be.
        ("evals_per_epoch: 4\nnum_epochs: 1\nmax_steps: [1]", "write training.evaluations"),
        ("evals_per_epoch: .inf\nnum_epochs: 1", "write training.evaluations"),
        ("metric_for_best_model: [loss]", "expected one of"),
        ("lr_scheduler_kwargs: {min_lr: 1}\nlearning_rate: 0", "is a rate of its own"),
        ("datasets: [{path: a, type: chat_template, message_field_role: [x]}]", "turns have"),
        ("sft_config: {learning_rate: 1}", "into the recipe's section training"),
    ],
)
def test_what_would_train_something_else_is_refused(
    write_recipe: WriteRecipe, more: str, says: str
) -> None:
    """By what it means, at its line, with what there is instead."""
    with pytest.raises(ConfigError) as caught:
        load(write_recipe, more)
    assert f":5: {more.partition(':')[0]}: " in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "more",
    [
        "special_tokens: {pad_token: x}",
        "tokenizer: some/model",
        "plugins: [axolotl.integrations.liger.LigerPlugin]",
        "wandb_project: x",
        "swanlab_mode: local",
        "stage: pt",
        "rl: ''",
        "resume_from_checkpoint: ''",
        "do_train: true",
        "overwrite_cache: true",
        "preprocessing_num_workers: 16",
        "sequence_parallel_degree: 1",
        "resume_from_checkpoint: true",
        "resume_from_checkpoint: false",
    ],
)
def test_what_changes_nothing_is_passed_over_with_a_reason(
    write_recipe: WriteRecipe, more: str
) -> None:
    """The recipe is what it would be without."""
    loaded = load(write_recipe, more)
    assert loaded.recipe == load(write_recipe, "").recipe
    assert f"{more.partition(':')[0]} (" in loaded.notes[-1]
    assert " -> ignored: " in loaded.notes[-1]


class TestInSections:
    def test_arguments_of_preferences_stay_there(self, write_recipe: WriteRecipe) -> None:
        """They would set the supervised training otherwise: 2 pairs x 4 passes are 8."""
        more = "dpo:\n  pairs: p.jsonl\n  per_device_train_batch_size: 2\n  loss_type: [ipo]\n"
        more += "  num_train_epochs: 2\n  gradient_accumulation_steps: 4\n"
        recipe = load(write_recipe, more).recipe
        assert recipe.dpo is not None
        assert (recipe.dpo.batch_size, recipe.dpo.loss, recipe.dpo.epochs) == (8, "ipo", 2.0)
        assert recipe.training.batch_size == 16
        assert recipe.training.epochs == 3.0

    def test_arguments_of_rewards_stay_there(self, write_recipe: WriteRecipe) -> None:
        """Answers and their length have other names; what counts answers is refused."""
        more = "grpo:\n  num_generations: 4\n  max_completion_length: 32\n"
        grpo = load(write_recipe, more).recipe.grpo
        assert grpo is not None
        assert (grpo.answers, grpo.max_new_tokens) == (4, 32)
        with pytest.raises(ConfigError, match=r"grpo\.per_device_train_batch_size: .*prompts_per"):
            load(write_recipe, more + "  per_device_train_batch_size: 8\n")
