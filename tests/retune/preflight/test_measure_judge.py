"""What a judge of this machine is counted to need, before a weight of it is loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from transformers import AutoTokenizer

from retune.errors import ConfigError
from retune.machine import Device
from retune.model_records import ScoredModel
from retune.modeling.memory.model_sizes import Work
from retune.modeling.memory.stage_sizes import JudgeSizes
from retune.preflight import measure_judge as module
from retune.preflight.measure_judge import measure_judge
from retune.preflight.stages import JudgeSizesInputs, JudgeSizesSettings
from retune.scoring.judge.wording import locate_wording
from tests.making import make_workdir, settings_of, source_of
from tests.retune.scoring.judge.conftest import write_asked_rows, write_verdicts
from tests.tiny_models import REPOSITORY

BASE = REPOSITORY / "assets" / "base_tiny"
JUDGE = ScoredModel(digest="the embedded base", weights=BASE, tokenizer=BASE)
AGAIN = "Write nothing but your verdict: [[A]], [[B]] or [[tie]]."
CONTEXT = json.loads((BASE / "config.json").read_text("utf-8"))["max_position_embeddings"]


def measured(
    folder: Path,
    *,
    judge: ScoredModel = JUDGE,
    verdicts: list[tuple[str, str, str]] | None = None,
    answer_tokens: int = 100,
) -> JudgeSizes:
    """Measure a judge that is asked about three rows, four questions at once."""
    wording = folder / "wording.txt"
    wording.write_text("{question}|{answer_a}|{answer_b}", "utf-8")
    split, source = write_asked_rows(folder / "rows", 3)
    judged = write_verdicts(folder / "verdicts.jsonl", verdicts) if verdicts else None
    inputs = JudgeSizesInputs(
        judge=judge,
        wording=locate_wording(wording, "en"),
        split=split,
        sources=(source,),
        system=None,
        human_verdicts=source_of(judged) if judged else None,
        device=Device(name="cpu", bfloat16=False),
        batch_size=4,
    )
    sections: dict[str, Any] = {
        "judge": {"local": str(BASE), "max_new_tokens": 8},
        "scoring": {"max_new_tokens": answer_tokens},
    }
    settings = settings_of(JudgeSizesSettings, **sections)
    return measure_judge(inputs, settings, make_workdir(folder / "work"))


@pytest.fixture
def works(monkeypatch: pytest.MonkeyPatch) -> list[Work]:
    """The work that is followed."""
    found: list[Work] = []
    follow = module.measure_model

    def note(*given: Any, **named: Any) -> Any:
        found.extend(given[2]["asked"])
        return follow(*given, **named)

    monkeypatch.setattr(module, "measure_model", note)
    return found


def count(text: str) -> int:
    """Return the tokens of a question, by the tokenizer's own template."""
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    asked = [{"role": "user", "content": text}]
    given = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=True)
    return len(given["input_ids"])


def test_rows_are_asked_about_with_two_answers_as_long_as_they_may_be(
    tmp_path: Path, works: list[Work]
) -> None:
    """The second question is the longer one. Weights are the snapshot's, in float32."""
    found = measured(tmp_path)
    longest = max(count(f"Question {at}?||\n\n{AGAIN}\n") for at in range(3))
    assert works == [Work(rows=4, tokens=longest + 2 * 100, written=8)]
    elements = sum(each.numel() for each in load_file(BASE / "model.safetensors").values())
    # Beside them stand the frequencies of its rotary positions.
    assert found.asked is not None
    assert found.asked.weights == pytest.approx(4 * elements, rel=1e-4)
    assert found.asked.working > 0 and found.offloadable and found.fault == ""


def test_a_longer_pair_that_people_judged_counts(tmp_path: Path, works: list[Work]) -> None:
    """As it is asked, with its own answers."""
    answer = " ".join(["SELECT nome FROM clientes"] * 60)
    measured(tmp_path, verdicts=[("sim", "não", "a"), ("sim", answer, "b")])
    assert works[0].tokens == count(f"Question 1?|sim|{answer}\n\n{AGAIN}\n")


def test_no_question_is_longer_than_the_judge_reads(tmp_path: Path, works: list[Work]) -> None:
    """With what it writes after it."""
    measured(tmp_path, answer_tokens=100_000)
    assert works == [Work(rows=4, tokens=CONTEXT - 8, written=8)]


def test_an_adapter_comes_on_top_and_is_not_offloaded(tmp_path: Path) -> None:
    """By the size of its file."""
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"x" * 1000)
    (tmp_path / "whole").mkdir()
    alone = measured(tmp_path / "whole")
    judge = JUDGE.model_copy(update={"adapter": adapter})
    found = measured(tmp_path, judge=judge)
    assert found.asked is not None and alone.asked is not None
    assert found.asked.weights == alone.asked.weights + 1000 and not found.offloadable


def test_a_judge_that_cannot_be_followed_is_told(tmp_path: Path, monkeypatch: Any) -> None:
    """And not counted."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise ConfigError("its class has no such step")

    monkeypatch.setattr(module, "measure_model", refuse)
    found = measured(tmp_path)
    assert (found.asked, found.fault) == (None, "its class has no such step")


def test_a_judge_that_could_not_be_asked_is_refused(tmp_path: Path) -> None:
    """Before the training: its kind is unknown, or no answer of it could end."""
    shutil.copytree(BASE, tmp_path / "unknown")
    (tmp_path / "unknown" / "config.json").write_text('{"model_type": "no_such"}', "utf-8")
    shutil.copytree(BASE, tmp_path / "endless")
    settings = json.loads((BASE / "tokenizer_config.json").read_text("utf-8"))
    del settings["eos_token"]
    (tmp_path / "endless" / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    for name, told in (("unknown", r"judge\.local: .*no_such"), ("endless", "has no eos_token")):
        folder = tmp_path / name
        judge = JUDGE.model_copy(update={"weights": folder, "tokenizer": folder})
        (folder / "asked").mkdir()
        with pytest.raises(ConfigError, match=told):
            measured(folder / "asked", judge=judge)
