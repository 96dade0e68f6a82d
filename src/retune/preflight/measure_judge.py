"""Stage `measure_judge`: what a judge of this machine needs, before a weight of it is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from transformers import AutoConfig

from retune.data.chats.rendering import ChatRenderer
from retune.data.chats.tokenizers import load_tokenizer
from retune.digests import digest_json
from retune.errors import ConfigError, RetuneError
from retune.modeling.context import read_context
from retune.modeling.memory.meta_model import UNBUILDABLE
from retune.modeling.memory.model_sizes import Work, measure_model
from retune.modeling.memory.stage_sizes import JudgeSizes
from retune.modeling.prequantized import NF4, quantized_as
from retune.preflight.stages import JudgeSizesInputs, JudgeSizesSettings
from retune.scoring.judge.asked import read_asked
from retune.scoring.judge.verdict_files import load_verdicts
from retune.scoring.judge.wording import Pair, Wording
from retune.spine.stage import Workdir

_ASKED = "asked"


def measure_judge(
    inputs: JudgeSizesInputs, settings: JudgeSizesSettings, work: Workdir
) -> JudgeSizes:
    """Count what a judge of this machine needs at its longest questions.

    Args:
        inputs: The judge, how it is asked, the rows and pairs that it is asked about, the device.
        settings: How much models and judge write.
        work: Unused; the result is its record.

    Returns:
        Its sizes; none where its work cannot be followed without weights.

    Raises:
        ConfigError: Its configuration or its tokenizer cannot be loaded: it could not be asked
            after the training.
    """
    folder, adapter = inputs.judge.weights, inputs.judge.adapter
    limit, written = _read_limit(folder), settings.max_new_tokens
    tokens = _longest_question(inputs, settings)
    if limit is not None:
        written = min(written, limit - 1)
        # A longer question is cut, or not answered.
        tokens = min(tokens, limit - written)
    asked = Work(rows=inputs.batch_size, tokens=tokens, written=written)
    try:
        sizes = measure_model(folder, "plain", {_ASKED: [asked]}, device=inputs.device)[_ASKED]
    except RetuneError as error:
        return _record(JudgeSizes(digest="", asked=None, fault=error.message))
    learned = sum(each.stat().st_size for each in adapter.glob("*.safetensors")) if adapter else 0
    return _record(
        JudgeSizes(
            digest="",
            asked=sizes.model_copy(update={"weights": sizes.weights + learned}),
            offloadable=adapter is None and quantized_as(folder) != NF4,
        )
    )


def _record(found: JudgeSizes) -> JudgeSizes:
    return found.model_copy(update={"digest": digest_json(found.model_dump(mode="json"))})


def _read_limit(folder: Path) -> int | None:
    try:
        return read_context(AutoConfig.from_pretrained(folder, local_files_only=True))
    except UNBUILDABLE as error:
        told = str(error).splitlines()[:1]
        raise ConfigError(
            f"judge.local: {folder / 'config.json'} is no configuration of a model that can be "
            f"asked ({type(error).__name__}: {''.join(told)}). Name a causal language model."
        ) from error


def _longest_question(inputs: JudgeSizesInputs, settings: JudgeSizesSettings) -> int:
    """Return the tokens of the longest question that the judge may be asked."""
    tokenizer = load_tokenizer(inputs.judge.tokenizer)
    renderer = ChatRenderer(tokenizer)
    wording = Wording(inputs.wording, settings.language, settings.rubric)

    def count(pair: Pair) -> int:
        asked = [{"role": "user", "content": wording.ask_again(pair)}]
        text = renderer.render_prompt(asked)
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    # No answer is there yet: two as long as they may be, in tokens that are about the judge's.
    both_answers = 2 * settings.answer_tokens
    rows = max((count(pair) + both_answers for pair in _list_asked(inputs)), default=1)
    verdicts = inputs.human_verdicts
    judged = load_verdicts(verdicts.path) if verdicts else []
    return max(rows, *(count(each.pair) for each in judged), 1)


def _list_asked(inputs: JudgeSizesInputs) -> Iterator[Pair]:
    sources = [each.folder / "rows.parquet" for each in inputs.sources]
    asked = read_asked(inputs.split.folder / "test.parquet", sources, inputs.system)
    return (Pair(question, "", "") for question in asked.values())
