"""Each method on a Llama and a GPT-2: what moves, what stays, what is counted, what comes back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from retune.digests import digest_folder
from retune.errors import ConfigError
from retune.inference.loaded_models import SLOT, load_scored_model
from retune.model_records import AdapterRef
from retune.modeling.four_bit import use_plain_4bit_kernels
from retune.modeling.snapshots import locate_base
from retune.records import ChatRef, Source
from retune.spine.stage import Workdir
from retune.training import supervised
from retune.training.metrics import read_metrics
from retune.training.stages import TrainInputs, TrainSettings
from retune.training.supervised import train_adapter
from retune.training.trainable import Trainable
from retune.weights.merge import merge_adapter
from retune.weights.quantize import quantize_model
from retune.weights.stages import MergeInputs, MergeSettings, QuantizeInputs, QuantizeSettings
from tests.making import make_workdir, settings_of
from tests.retune.training.killed_training import train_until_killed

REPOSITORY = Path(__file__).parents[3]
EMBEDDED = REPOSITORY / "assets" / "base_tiny"
IDS = torch.arange(3, 43).view(2, 20)
LOW_RANK = {"kind": "lora", "r": 4, "alpha": 8}
Inputs = Callable[[str, str], TrainInputs]


def section(method: dict[str, Any], kind: str = "none", **training: Any) -> TrainSettings:
    """Six steps of four rows, evaluated at 3 and 6, with a checkpoint every 2."""
    rate = {"full": 0.003, "prefix": 0.2, "prompt": 0.2}.get(method["kind"], 0.02)
    rate = 0.003 if method.get("projection") else rate
    settings = {"max_steps": 6, "batch_size": 4, "learning_rate": rate, "evaluations": 2}
    settings |= {"evaluation_rows": 4, "checkpoint_every_steps": 2, "warmup_steps": 0.0}
    found: TrainSettings = settings_of(
        TrainSettings,
        seed=11,
        model={"id": "tiny"},
        # In bfloat16 the trainer's own forward would give other logits than a scorer's.
        quantization={"kind": kind, "compute_dtype": "float32"},
        method=method,
        training={**settings, "keep_best": False, **training},
    )
    return found


@pytest.fixture(scope="module")
def inputs_of(
    snapshot: Callable[[str], Path],
    format_for: Callable[..., ChatRef],
    reference_text: Source,
    tmp_path_factory: pytest.TempPathFactory,
) -> Inputs:
    """What a training of a family is given, quantized or not; each is made once."""
    made: dict[tuple[str, str], TrainInputs] = {}

    def make(family: str, kind: str) -> TrainInputs:
        if (family, kind) not in made:
            folder = EMBEDDED if family == "embedded" else snapshot(family)
            base = locate_base(str(folder), None)
            chats = format_for(base)
            model = quantize_model(
                QuantizeInputs(base=base, reference_text=reference_text),
                settings_of(QuantizeSettings, model={"id": "tiny"}, quantization={"kind": kind}),
                make_workdir(tmp_path_factory.mktemp("quantize") / "work"),
            )
            made[family, kind] = TrainInputs(
                train=chats.side("train"),
                validation=chats.side("validation"),
                base=base,
                model=model,
            )
        return made[family, kind]

    return make


@dataclass
class Watched:
    """A training whose model was looked at before and after."""

    adapter: AdapterRef
    trained: Trainable
    before: dict[str, torch.Tensor]

    def moved(self) -> dict[str, bool]:
        """Say of each weight whether it is another than before, by a single bit at least."""
        now = dict(self.trained.model.named_parameters())
        return {name: not torch.equal(then, now[name]) for name, then in self.before.items()}


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Watched]:
    """Train, and keep the model and its first weights."""

    def train(inputs: TrainInputs, settings: TrainSettings, work: Workdir) -> Watched:
        seen: dict[str, Any] = {}
        prepare = supervised.prepare_model

        def remember(*arguments: Any) -> Trainable:
            trained = seen["trained"] = prepare(*arguments)
            weights = trained.model.named_parameters()
            seen["before"] = {name: weight.detach().clone() for name, weight in weights}
            return trained

        monkeypatch.setattr(supervised, "prepare_model", remember)
        return Watched(train_adapter(inputs, settings, work), seen["trained"], seen["before"])

    return train


def logits(model: torch.nn.Module) -> torch.Tensor:
    use_plain_4bit_kernels(model, torch.float32)
    with torch.inference_mode():
        found: torch.Tensor = model.eval()(input_ids=IDS).logits
    # Learned inputs stand before the text and have logits of their own.
    return found[:, -IDS.shape[1] :]


# Total parameters, over a vocabulary of 4,096.
# Llama: embedding and head 2 * 4,096 * 64 = 524,288; a block has q, o 4,096 each, k, v 2,048 each,
# three of 8,192 and two norms of 64: 36,992; two blocks and the last norm: 598,336.
# GPT-2: 4,096 * 64 + 1,024 * 64 = 327,680 (the head is the embedding); a block has 64 * 192 + 192,
# 64 * 64 + 64, 64 * 256 + 256, 256 * 64 + 64 and two norms of 128: 49,984; two, and 128: 427,776.
TOTAL = {"llama": 598_336, "gpt2": 427_776}
# r * (in + out) of all layers of a block. Llama: q, o 128 each, k, v 96 each, three of 192: 1,024.
# GPT-2: 256, 128, 320, 320: 1,024 too. Times r = 4, two blocks: 8,192.
LORA = 8_192
# What the layers of both blocks give out. Llama: 2 * (64 + 64 + 32 + 32 + 128 + 128 + 64) = 1,024;
# GPT-2: 2 * (192 + 64 + 256 + 64) = 1,152, and so many biases have its adapted layers.
OUT = {"llama": 1_024, "gpt2": 1_152}

BOTTLENECK = {"kind": "bottleneck", "size": 8, "init_std": 0.02}
# Down 64 * 8 + 8, up 8 * 64 + 64: 1,096; two in each of two blocks.
FOUR = 4 * 1_096
PREFIX = {"kind": "prefix", "virtual_tokens": 4}
# A key and a value of each block for each of 4 positions: 2 * 2 * 4 = 16 rows, as wide as the heads
# that keys have: 2 of 16 for Llama and Qwen 3, 4 of 16 for GPT-2.
PREFIXES = {"llama": 16 * 32, "qwen3": 16 * 32, "gpt2": 16 * 64}
PROJECTED = {**PREFIX, "projection": True, "projection_size": 16}
P_TUNING = {"kind": "p_tuning", "virtual_tokens": 4, "encoder_size": 16}
# 4 positions of 64, then layers of 64 to 16, 16 to 16 and 16 to 64 with their biases.
ENCODED = 4 * 64 + (64 * 16 + 16) + (16 * 16 + 16) + (16 * 64 + 64)
PROMPT = {"kind": "prompt", "virtual_tokens": 4}
LEARNED_POSITIONS = {"prefix", "p_tuning", "prompt"}

CASES: list[tuple[str, dict[str, Any], str, int]] = [
    *((f, BOTTLENECK, "none", FOUR) for f in ("llama", "qwen3", "gemma3", "gpt2", "gpt_oss")),
    ("llama", BOTTLENECK, "nf4", FOUR),
    ("gpt2", {**BOTTLENECK, "after_attention": False, "dropout": 0.1}, "nf4", FOUR // 2),
    ("llama", {**BOTTLENECK, "after_feed_forward": False, "activation": "relu"}, "none", FOUR // 2),
    *((f, PREFIX, "none", count) for f, count in PREFIXES.items()),
    ("llama", PREFIX, "nf4", PREFIXES["llama"]),
    # 4 positions of 32, a layer of 32 to 16, and one of 16 to both blocks' keys and values.
    ("llama", PROJECTED, "none", 4 * 32 + (32 * 16 + 16) + (16 * 128 + 128)),
    *((f, P_TUNING, "none", ENCODED) for f in ("llama", "qwen3", "gemma3", "gpt2", "gpt_oss")),
    # An lstm of two layers in two directions: 4 gates of inputs, 16 of its own and two biases. The
    # first layer reads 64, the second both directions' 16. Then layers of 32 to 32 and 32 to 64.
    (
        "gpt2",
        {**P_TUNING, "encoder": "lstm"},
        "nf4",
        4 * 64 + 2 * 64 * (64 + 16 + 2) + 2 * 64 * (32 + 16 + 2) + (32 * 32 + 32) + (32 * 64 + 64),
    ),
    *((f, PROMPT, "none", 4 * 64) for f in ("llama", "qwen3", "gemma3", "gpt2", "gpt_oss")),
    ("llama", {**PROMPT, "init_text": "Answer in one word."}, "nf4", 4 * 64),
    *(
        (family, {"kind": kind, "r": 4, "alpha": 8}, quantized, LORA)
        for family in TOTAL
        for kind, quantized in (("lora", "none"), ("qlora", "nf4"))
    ),
    *((f, {**LOW_RANK, "dora": True}, q, LORA + OUT[f]) for f in TOTAL for q in ("none", "nf4")),
    ("gpt2", {**LOW_RANK, "bias": "lora_only"}, "none", LORA + OUT["gpt2"]),
    # The two norms of each block have a bias of 64 too, and the last one.
    ("gpt2", {**LOW_RANK, "bias": "all"}, "nf4", LORA + OUT["gpt2"] + 5 * 64),
    ("llama", {**LOW_RANK, "modules_to_save": ["norm"]}, "none", LORA + 64),
    ("llama", {**LOW_RANK, "modules_to_save": ["lm_head"]}, "nf4", LORA + 4096 * 64),
    *((f, {**LOW_RANK, "init": i}, "none", LORA) for f in TOTAL for i in ("gaussian", "pissa")),
    ("llama", {**LOW_RANK, "init": "pissa", "rslora": True, "dora": True}, "none", LORA + 1_024),
    ("llama", {**LOW_RANK, "init": "olora"}, "none", LORA),
    ("gpt2", {**LOW_RANK, "init": "orthogonal"}, "none", LORA),
    # Of each pair the second matrix is frozen: r * in. 64 * 6 + 128 a block; 64 * 3 + 256.
    ("llama", {**LOW_RANK, "init": "mica"}, "none", 4 * 2 * 512),
    ("gpt2", {**LOW_RANK, "init": "mica"}, "none", 4 * 2 * 448),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "method", "quantized", "trainable"),
    CASES,
    ids=[f"{f}-{'-'.join(f'{k}={v}' for k, v in m.items())}-{q}" for f, m, q, _ in CASES],
)
def test_an_adapter_moves_and_its_base_does_not(
    family: str,
    method: dict[str, Any],
    quantized: str,
    trainable: int,
    inputs_of: Inputs,
    watch: Callable[..., Watched],
    work: Workdir,
) -> None:
    """All that is frozen is the same bit for bit, all that is not moved, and the loss fell.

    What is saved gives, over the base as it was, the logits that the model in training gave.
    """
    inputs = inputs_of(family, quantized)
    folders = (inputs.base.folder, inputs.model.folder)
    digests = [digest_folder(folder) for folder in folders]
    seen = watch(inputs, section(method, quantized, max_steps=12), work)
    learned = {n for n, w in seen.trained.model.named_parameters() if w.requires_grad}
    assert {name for name, moved in seen.moved().items() if moved} == learned
    assert [digest_folder(folder) for folder in folders] == digests
    adapter = seen.adapter
    assert (adapter.kind, adapter.trainable_parameters) == (method["kind"], trainable)
    assert adapter.validation_loss is not None and adapter.base_validation_loss is not None
    # A random model says nearly the same whatever stands before: see the next test for these.
    if method["kind"] not in LEARNED_POSITIONS:
        assert adapter.validation_loss < adapter.base_validation_loss - 0.05
    ours = logits(seen.trained.model)
    loaded = load_scored_model(adapter.as_scored(inputs.model, inputs.base))
    theirs = logits(loaded.model)
    assert (ours - theirs).abs().max() < 1e-4 * ours.std()
    base = load_scored_model(inputs.base.as_scored())
    assert (ours - logits(base.model)).abs().max() > 0.1 * ours.std()


@pytest.mark.slow
@pytest.mark.parametrize("method", [PREFIX, PROJECTED, P_TUNING, PROMPT])
def test_learned_positions_steer_a_model_that_reads(
    method: dict[str, Any], inputs_of: Inputs, work: Workdir
) -> None:
    """On a trained model the held-out loss falls, its weights being as they were."""
    adapter = train_adapter(inputs_of("embedded", "none"), section(method, max_steps=40), work)
    assert adapter.validation_loss is not None and adapter.base_validation_loss is not None
    assert adapter.validation_loss < adapter.base_validation_loss - 0.05


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_full_fine_tuning_moves_all_weights(
    family: str, inputs_of: Inputs, watch: Callable[..., Watched], work: Workdir
) -> None:
    """Every tensor moved, the base's files did not, and a plain load gives the same logits."""
    inputs = inputs_of(family, "none")
    digest = digest_folder(inputs.base.folder)
    seen = watch(inputs, section({"kind": "full"}), work)
    assert all(seen.moved().values())
    assert digest_folder(inputs.base.folder) == digest
    adapter = seen.adapter
    assert (adapter.trainable_parameters, adapter.total_parameters) == (TOTAL[family],) * 2
    assert adapter.validation_loss is not None and adapter.base_validation_loss is not None
    assert adapter.validation_loss < adapter.base_validation_loss - 0.05
    scored = adapter.as_scored(inputs.model, inputs.base)
    assert (scored.weights, scored.adapter) == (adapter.folder, None)
    assert torch.equal(logits(load_scored_model(scored).model), logits(seen.trained.model))


def test_the_settings_of_a_snapshot_are_those_of_its_base(inputs_of: Inputs, work: Workdir) -> None:
    """What the trainer sets in passing (special tokens, cache) is no part of the model."""
    inputs = inputs_of("llama", "none")
    adapter = train_adapter(inputs, section({"kind": "full"}, max_steps=2), work)
    for name in ("config.json", "generation_config.json"):
        ours, theirs = (
            json.loads((folder / name).read_text("utf-8"))
            for folder in (adapter.folder, inputs.base.folder)
        )
        assert ours == theirs
    assert locate_base(str(adapter.folder), None).tokenizer_digest == inputs.base.tokenizer_digest


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_whole_weights_are_released_in_the_dtype_of_the_base(
    family: str, inputs_of: Inputs, tmp_path: Path, copied: Callable[[Path], Path]
) -> None:
    """Trainable in float32, saved in the base's bfloat16, and still within the tolerance."""
    from transformers import AutoModelForCausalLM

    inputs = inputs_of(family, "none")
    folder = copied(inputs.base.folder)
    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    base = locate_base(str(folder), None)
    model = inputs.model.model_copy(update={"digest": "other"})
    inputs = inputs.model_copy(update={"base": base, "model": model})
    adapter = train_adapter(
        inputs, section({"kind": "full"}, max_steps=2), make_workdir(tmp_path / "train")
    )
    trained = load_file(adapter.folder / "model.safetensors")
    assert {weight.dtype for weight in trained.values()} == {torch.float32}
    merged = merge_adapter(
        MergeInputs(adapter=adapter, base=base, rows=inputs.validation, template=None),
        settings_of(MergeSettings, merge={"check_rows": 2}),
        make_workdir(tmp_path / "merge"),
    )
    released = load_file(merged.folder / "model.safetensors")
    assert released.keys() == trained.keys()
    # Rounded once, and by nothing else.
    assert all(torch.equal(released[name], trained[name].bfloat16()) for name in released)
    assert 0 < merged.max_logit_difference <= 0.05 * merged.logit_spread


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "more", "quantized"),
    [
        ("llama", {"dora": True}, "nf4"),
        ("gpt2", {"bias": "all", "init": "pissa"}, "none"),
        ("llama", {"modules_to_save": ["lm_head", "norm"]}, "none"),
    ],
)
def test_each_kind_of_adapter_merges(
    family: str, more: dict[str, Any], quantized: str, inputs_of: Inputs, tmp_path: Path
) -> None:
    """Magnitudes, biases and whole modules are in the released weights too."""
    inputs = inputs_of(family, quantized)
    adapter = train_adapter(
        inputs, section({**LOW_RANK, **more}, quantized), make_workdir(tmp_path / "train")
    )
    merged = merge_adapter(
        MergeInputs(adapter=adapter, base=inputs.base, rows=inputs.validation, template=None),
        settings_of(MergeSettings, merge={"check_rows": 2}),
        make_workdir(tmp_path / "merge"),
    )
    assert merged.max_logit_difference < 1e-3 * merged.logit_spread


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "method", "keep_best"),
    [
        ("llama", {"kind": "full"}, True),
        ("gpt2", {"kind": "full"}, False),
        ("llama", {**LOW_RANK, "init": "pissa"}, False),
        ("gpt_oss", {**LOW_RANK, "target_parameters": ["experts.down_proj"]}, False),
        ("gpt2", BOTTLENECK, True),
        ("llama", P_TUNING, True),
        ("gpt2", PROJECTED, False),
    ],
)
def test_a_killed_training_resumes_to_the_same_weights(
    family: str, method: dict[str, Any], keep_best: bool, inputs_of: Inputs, tmp_path: Path
) -> None:
    """Kill -9 in step 5, after the checkpoint of step 4: the same bytes, figures and curves.

    GPT-2 has dropout, so that the state of chance has to come back too.
    """
    inputs, settings = inputs_of(family, "none"), section(method, keep_best=keep_best)
    whole = train_adapter(inputs, settings, make_workdir(tmp_path / "whole"))
    work = make_workdir(tmp_path / "killed")
    train_until_killed(inputs, settings, work, step=5)
    resumed = train_adapter(inputs, settings, work)
    assert resumed.resumed_from_step == 4
    same = {"folder": None, "resumed_from_step": 0}
    assert resumed.model_copy(update=same) == whole.model_copy(update=same)
    curves = [read_metrics(one.folder / "log" / "metrics.jsonl") for one in (whole, resumed)]
    assert curves[0] == curves[1]
    # Killed once more before the store's seal: nothing is left to train.
    shelf = Workdir(tmp_path / "again", work.scratch)
    shelf.artifact.mkdir()
    assert train_adapter(inputs, settings, shelf).digest == whole.digest


def test_the_best_weights_are_kept_and_only_once(
    inputs_of: Inputs, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss is worse at step 6 than at 3, so that the weights of step 3 come out."""
    from retune.training.callbacks import BestWeights

    look, kept = BestWeights.on_evaluate, {}

    def worse_at_the_end(self: Any, args: Any, state: Any, control: Any, **given: Any) -> None:
        given["metrics"] = {"eval_loss": 1.0 + state.global_step}
        look(self, args, state, control, **given)
        kept[state.global_step] = sorted(path.name for path in self.kept.parent.iterdir())

    monkeypatch.setattr(BestWeights, "on_evaluate", worse_at_the_end)
    settings = section({"kind": "full"}, keep_best=True, checkpoint_every_steps=3)
    adapter = train_adapter(inputs_of("llama", "none"), settings, work)
    assert adapter.best_step == 3
    assert kept[3] == kept[6] == ["best.json", "weights"]
    ours = load_file(adapter.folder / "model.safetensors")
    step3, step6 = (
        load_file(work.scratch / "checkpoints" / f"checkpoint-{step}" / "model.safetensors")
        for step in (3, 6)
    )
    assert all(torch.equal(ours[name], step3[name]) for name in ours)
    assert not any(torch.equal(ours[name], step6[name]) for name in ours)


@pytest.mark.parametrize(
    ("family", "more", "quantized", "text"),
    [
        ("gpt2", {"target_modules": ["q_proj"]}, "none", r"q_proj match no layer.*c_attn, c_fc"),
        ("llama", {"r": 33}, "nf4", r"method.r: 33 is larger than .*k_proj, which is 64 x 32"),
        ("gpt2", {"r": 65}, "nf4", r"method.r: 65 is larger than .*which is 64 x 192"),
        ("llama", {"modules_to_save": ["score"]}, "none", r"score matches no module.*lm_head"),
        ("llama", {"modules_to_save": ["q_proj"]}, "nf4", r"q_proj is quantized"),
        ("gpt2", {"modules_to_save": ["lm_head"]}, "none", r"lm_head shares its weights"),
        ("gpt2", {"modules_to_save": ["wte"]}, "nf4", r"wte shares its weights"),
        ("llama", {"bias": "all"}, "none", r"method.bias: is all, but no adapted layer"),
        ("gpt2", {"init": "olora"}, "none", r"olora does not work on .*c_attn"),
    ],
)
def test_what_does_not_fit_the_model_stops_before_training(
    family: str, more: dict[str, Any], quantized: str, text: str, inputs_of: Inputs, work: Workdir
) -> None:
    """One message that names the key and what there is; nothing was trained."""
    SLOT.clear()
    with pytest.raises(ConfigError, match=text):
        train_adapter(inputs_of(family, quantized), section({**LOW_RANK, **more}, quantized), work)
    assert not list(work.scratch.iterdir())


@pytest.mark.parametrize(
    ("family", "method", "training", "text"),
    [
        ("llama", {**BOTTLENECK, "size": 64}, {}, r"method.size: 64 is no bottleneck .* 64 wide"),
        (
            "llama",
            {**BOTTLENECK, "after_attention": False, "after_feed_forward": False},
            {},
            r"after_attention and after_feed_forward are both false",
        ),
        ("gemma3", PREFIX, {}, r"prefix does not fit gemma3_text.*sliding_attention.*p_tuning"),
        ("gpt_oss", PREFIX, {}, r"prefix does not fit gpt_oss.*sliding_attention.*p_tuning"),
        (
            "llama",
            PREFIX,
            {"gradient_checkpointing": True},
            r"prefix does not go with training.gradient_checkpointing",
        ),
        ("gpt2", {**PREFIX, "virtual_tokens": 1024}, {}, r"1024 before the longest row"),
        ("gpt2", {**P_TUNING, "virtual_tokens": 1020}, {}, r"1020 before the longest row"),
        ("llama", {"kind": "frozen"}, {}, r"frozen trains a classification head"),
    ],
)
def test_a_method_that_does_not_fit_stops_before_training(
    family: str,
    method: dict[str, Any],
    training: dict[str, Any],
    text: str,
    inputs_of: Inputs,
    work: Workdir,
) -> None:
    """One message that names the key and what to choose; nothing was trained."""
    SLOT.clear()
    with pytest.raises(ConfigError, match=text):
        train_adapter(inputs_of(family, "none"), section(method, **training), work)
    assert not list(work.scratch.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("method", [BOTTLENECK, P_TUNING, PROMPT], ids=lambda m: str(m["kind"]))
def test_gradient_checkpointing_changes_no_weight(
    method: dict[str, Any], inputs_of: Inputs, tmp_path: Path
) -> None:
    """Activations that are computed again are the same, and so is what is learned from them."""
    found = [
        train_adapter(
            inputs_of("llama", "none"),
            section(method, gradient_checkpointing=on),
            make_workdir(tmp_path / str(on)),
        )
        for on in (False, True)
    ]
    plain, again = (load_file(one.folder / "adapter_model.safetensors") for one in found)
    for name, weight in plain.items():
        assert (weight - again[name]).abs().max() < 1e-4 * weight.abs().max()
