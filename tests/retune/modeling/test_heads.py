"""Classification heads: where they read, how they begin, and how they are saved."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from retune.errors import ConfigError
from retune.modeling.heads import (
    add_head,
    last_real_tokens,
    load_classifier,
    pool_last_real_token,
    put_head,
    save_head,
)

CPU = torch.device("cpu")
LABELS = ("bom", "neutro", "ruim")
EOS = 1
TEXT = [5, 9, EOS, 7]


def classifier(snapshot: Path, **options: object) -> PreTrainedModel:
    """A tiny random model with a new head of three classes; its padding is its end token."""
    settings = {"labels": LABELS, "pad_token_id": EOS, "seed": 3, **options}
    return add_head(snapshot, dtype=torch.float32, device=CPU, **settings)  # type: ignore[arg-type]


def figures(model: torch.nn.Module, ids: list[int], mask: list[int]) -> torch.Tensor:
    with torch.no_grad():
        out = model(input_ids=torch.tensor([ids]), attention_mask=torch.tensor([mask]))
    logits: torch.Tensor = out.logits[0]
    return logits


def test_the_position_is_that_of_the_last_one_in_the_mask() -> None:
    """Whatever the side of the padding.

    By hand, five positions: left padding ends at 4; 3 real ones on the right end at 2; one real
    token in front is at 0; a hole inside a text changes nothing.
    """
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 0, 1, 1, 0]])
    found = last_real_tokens(mask, 5)
    assert isinstance(found, torch.Tensor)
    assert found.tolist() == [4, 2, 0, 3]


def test_positions_count_from_the_text_where_the_mask_is_longer() -> None:
    """Two learned positions before three given ones: the mask's last three say it, so 2 and 0."""
    found = last_real_tokens(torch.tensor([[1.0, 1, 1, 1, 1], [1, 1, 1, 0, 0]]), 3)
    assert isinstance(found, torch.Tensor)
    assert found.tolist() == [2, 0]


def test_without_a_mask_the_last_token_is_read() -> None:
    """All tokens are real then."""
    assert last_real_tokens(None, 5) == -1


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_head_reads_the_last_real_token_under_both_paddings(
    snapshot: Callable[[str], Path], family: str
) -> None:
    """The head times the hidden state there is expected.

    The text is 5 9 EOS 7 and padding is EOS too: its last token, 7, is at 3 unpadded, at 3 with two
    behind it and at 5 with two before it.
    """
    model = classifier(snapshot(family))
    with torch.no_grad():
        hidden = model.base_model(input_ids=torch.tensor([TEXT])).last_hidden_state
        expected = hidden[0, 3] @ model.get_submodule("score").weight.T
    right = figures(model, [*TEXT, EOS, EOS], [1, 1, 1, 1, 0, 0])
    left = figures(model, [EOS, EOS, *TEXT], [0, 0, 1, 1, 1, 1])
    for found in (figures(model, TEXT, [1] * 4), right, left):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_a_text_that_ends_with_the_padding_token_is_read_at_its_end(
    snapshot: Callable[[str], Path],
) -> None:
    """5 9 EOS: transformers reads 9, the last that is not padding; the mask says EOS is real."""
    model = classifier(snapshot("llama"))
    ids = torch.tensor([[5, 9, EOS]])
    with torch.no_grad():
        hidden = model.base_model(input_ids=ids).last_hidden_state[0]
        by_id = type(model).forward(model, input_ids=ids).logits[0]
    weight = model.get_submodule("score").weight
    found = figures(model, [5, 9, EOS], [1, 1, 1])
    torch.testing.assert_close(found, hidden[2] @ weight.T)
    torch.testing.assert_close(by_id, hidden[1] @ weight.T)


ADAPTERS = {
    "lora": LoraConfig(task_type="SEQ_CLS", target_modules=["q_proj"]),
    "prefix": PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3),
    "prompt": PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3),
}


@pytest.mark.parametrize("kind", ADAPTERS)
def test_padding_changes_nothing_under_an_adapter(
    snapshot: Callable[[str], Path], kind: str
) -> None:
    """Learned positions make the mask longer than the text, which stays where it was."""
    torch.manual_seed(0)
    model = get_peft_model(classifier(snapshot("llama")), ADAPTERS[kind]).eval()
    alone = figures(model, TEXT, [1] * 4)
    padded = figures(model, [*TEXT, EOS, EOS], [1, 1, 1, 1, 0, 0])
    torch.testing.assert_close(alone, padded, atol=1e-5, rtol=1e-4)


def test_a_head_learns_under_checkpointing_and_mixed_precision(
    snapshot: Callable[[str], Path],
) -> None:
    """Its figures stay float32, and gradients reach the head and the first block."""
    model = classifier(snapshot("llama"), dropout=0.5).train()
    model.gradient_checkpointing_enable()
    with torch.autocast("cpu", torch.bfloat16):
        out = model(
            input_ids=torch.tensor([TEXT]),
            attention_mask=torch.ones(1, 4, dtype=torch.long),
            labels=torch.tensor([2]),
        )
    out.loss.backward()
    assert out.logits.dtype == torch.float32
    first = model.get_submodule("model.layers.0.self_attn.q_proj").weight
    for weight in (model.get_submodule("score").weight, first):
        assert weight.grad is not None and weight.grad.abs().sum() > 0


def test_dropout_falls_on_what_the_head_reads_in_training_alone(
    snapshot: Callable[[str], Path],
) -> None:
    """A base without dropout of its own: two passes differ in training, and not in evaluation."""
    model = classifier(snapshot("llama"), dropout=0.5)
    assert torch.equal(figures(model, TEXT, [1] * 4), figures(model, TEXT, [1] * 4))
    model.train()
    assert not torch.equal(figures(model, TEXT, [1] * 4), figures(model, TEXT, [1] * 4))


def test_the_first_weights_are_those_of_the_seed(snapshot: Callable[[str], Path]) -> None:
    """Small, the same for the same seed, others for another one."""
    one, same, other = (
        classifier(snapshot("llama"), seed=seed).get_submodule("score").weight for seed in (3, 3, 4)
    )
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert 0.01 < float(one.detach().std()) < 0.03


def test_a_saved_classifier_is_a_plain_one_with_its_labels(
    snapshot: Callable[[str], Path], tmp_path: Path
) -> None:
    """config.json names class and labels, and the reloaded model says the same."""
    model = classifier(snapshot("llama"))
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert config["id2label"] == {"0": "bom", "1": "neutro", "2": "ruim"}
    assert config["label2id"] == {"bom": 0, "neutro": 1, "ruim": 2}
    assert config["pad_token_id"] == EOS
    again = load_classifier(tmp_path, dtype=torch.float32, device=CPU)
    assert torch.equal(figures(model, TEXT, [1] * 4), figures(again, TEXT, [1] * 4))
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(figures(model, TEXT, [1] * 4), figures(plain, TEXT, [1] * 4))


def test_a_head_alone_goes_onto_its_base_again(
    snapshot: Callable[[str], Path], tmp_path: Path
) -> None:
    """Two heads of other seeds differ, until one has the other's weights."""
    model, other = classifier(snapshot("llama")), classifier(snapshot("llama"), seed=9)
    save_head(model, tmp_path)
    put_head(other, tmp_path)
    assert torch.equal(figures(model, TEXT, [1] * 4), figures(other, TEXT, [1] * 4))


def test_one_label_is_refused(snapshot: Callable[[str], Path]) -> None:
    """There is nothing to tell apart."""
    with pytest.raises(ConfigError, match="at least two"):
        classifier(snapshot("llama"), labels=("bom",))


def test_a_model_that_writes_is_no_saved_classifier(snapshot: Callable[[str], Path]) -> None:
    """Its head would be made up at random."""
    with pytest.raises(ConfigError, match=r"score\.weight"):
        load_classifier(snapshot("llama"), dtype=torch.float32, device=CPU)


def test_pooling_leaves_the_class_as_it_is(snapshot: Callable[[str], Path]) -> None:
    """config.json must name a class that transformers knows."""
    model = classifier(snapshot("llama"))
    assert type(pool_last_real_token(model)).__name__ == "LlamaForSequenceClassification"
