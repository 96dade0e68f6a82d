"""What a model would be given to read: the longest of it, and the tokens in it.

Both are known before a weight is loaded, from the chats and from the files that a recipe names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from retune.data.chats.messages import build_messages
from retune.data.chats.rendering import ChatRenderer, render_prompt
from retune.data.chats.tokenizers import Tokenizer, load_tokenizer
from retune.modeling.reference import read_references
from retune.preflight.stages import MethodInputs, MethodSettings
from retune.scoring.counterfactual import expand_pairs, load_counterfactuals
from retune.scoring.probes import load_probes

_CHAT = ("prompt_ids", "answer_ids")


@dataclass(frozen=True)
class Reading:
    """One kind of text that a model is given.

    Attributes:
        what: As messages name it, such as ``a row of the train side``.
        longest: Tokens of the longest one, with all that is written behind it.
        where: Which one that is; empty where it has no name.
        writes: Of these, the most tokens that the model itself writes behind it.
        key: The setting that says so.
        largest_id: Largest token id in any of them; -1 where there are none.
        cut: Whether what is too long is read in parts or left out by itself.
    """

    what: str
    longest: int
    where: str = ""
    writes: int = 0
    key: str = ""
    largest_id: int = -1
    cut: bool = False


def list_readings(inputs: MethodInputs, settings: MethodSettings) -> Iterator[Reading]:
    """Return all that a run gives the model to read.

    Args:
        inputs: Chats, pairs, probes and texts.
        settings: How much is written behind prompts, and what probes are asked with.

    Yields:
        One entry for each kind; texts are encoded, chats are already.
    """
    has_head = inputs.has_head
    for name, side in (("train", inputs.train), ("validation", inputs.validation)):
        yield _rows(f"a row of the {name} side", side.folder, _CHAT[:1] if has_head else _CHAT)
    if inputs.test is not None:
        columns = _CHAT[:1] if has_head else _CHAT
        yield _rows("a row of the test side", inputs.test.folder, columns)
    if has_head:
        return
    if inputs.test is not None and inputs.writes:
        most = settings.max_new_tokens
        yield _prompts("a prompt of the test side", inputs.test.folder, most, "scoring")
    if settings.reward_tokens is not None:
        most = settings.reward_tokens
        yield _prompts("a prompt of the train side", inputs.train.folder, most, "grpo")
    if inputs.pairs is not None:
        yield _pairs(inputs.pairs.folder / "pairs.parquet", inputs.pairs.longest_tokens)
    yield from _asked(inputs, settings)
    yield from _texts(inputs)


def _rows(what: str, folder: Path, columns: Sequence[str]) -> Reading:
    table = _read(folder, columns)
    if not len(table):
        return Reading(what, 0)
    lengths = sum(pc.list_value_length(table[name]).to_numpy() for name in columns)
    place = int(lengths.argmax())
    return Reading(what, int(lengths[place]), _row_id(folder, place), largest_id=_largest(table))


def _prompts(what: str, folder: Path, most: int, section: str) -> Reading:
    found = _rows(what, folder, _CHAT[:1])
    return Reading(
        what,
        found.longest + most if found.longest else 0,
        found.where,
        writes=most,
        key=f"{section}.max_new_tokens",
        largest_id=found.largest_id,
    )


def _pairs(path: Path, longest: int) -> Reading:
    names = [name for name in pq.read_schema(path).names if name.endswith("_ids")]
    table = pq.read_table(path, columns=names)
    return Reading("a pair of dpo.pairs", longest, largest_id=_largest(table))


def _asked(inputs: MethodInputs, settings: MethodSettings) -> Iterator[Reading]:
    """Encode the questions of probes, as `retune.scoring.probes.probe_models` asks them."""
    most = settings.probe_tokens
    if most is None or (inputs.probes is None and inputs.counterfactuals is None):
        return
    tokenizer = load_tokenizer(inputs.base.folder, inputs.template)
    renderer = ChatRenderer(tokenizer, effort=settings.reasoning_effort)

    def encode(questions: Iterable[str]) -> list[list[int]]:
        messages = (
            build_messages(question=question, system=settings.system) for question in questions
        )
        return _encode(tokenizer, [renderer.render_prompt(each) for each in messages])

    if inputs.probes is not None:
        ids = encode(case.input for case in load_probes(inputs.probes.path))
        yield _answered("a question of probes.file", ids, most)
    if inputs.counterfactuals is None:
        return
    sets = load_counterfactuals(inputs.counterfactuals.path)
    answered = [one.model_copy(update={"continuations": ()}) for one in sets if one.hit_words]
    read = [one.model_copy(update={"hit_words": ()}) for one in sets if one.continuations]
    for sides, new in ((answered, most), (read, 0)):
        pairs = [side for pair in expand_pairs(*sides) for side in (pair.first, pair.second)]
        ends = _encode(tokenizer, [side.continuation or "" for side in pairs])
        ids = encode(side.input for side in pairs)
        whole = [[*first, *second] for first, second in zip(ids, ends, strict=True)]
        yield _answered("a question of probes.counterfactuals", whole, new)


def _answered(what: str, ids: Sequence[Sequence[int]], most: int) -> Reading:
    longest = max(map(len, ids), default=0)
    return Reading(
        what,
        longest + most if longest else 0,
        writes=most,
        key="probes.max_new_tokens" if most else "",
        largest_id=max((max(each) for each in ids if each), default=-1),
    )


def _texts(inputs: MethodInputs) -> Iterator[Reading]:
    """Encode the texts that losses are measured on; long ones are read in windows, or set aside."""
    tokenizer = load_tokenizer(inputs.base.folder) if inputs.texts else None
    for source in inputs.texts:
        references = read_references(source.path)
        prompts = [one.prompt for one in references if one.prompt is not None]
        asked = [
            render_prompt(tokenizer, [{"role": "user", "content": prompt}]) for prompt in prompts
        ]
        ids = _encode(tokenizer, [*asked, *(one.text for one in references)])
        largest = max((max(each) for each in ids if each), default=-1)
        yield Reading(f"a text of {source.path}", 0, largest_id=largest, cut=True)


def _encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    ids: list[list[int]] = (
        tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
    )
    return ids


def _read(folder: Path, columns: Sequence[str]) -> pa.Table:
    return pq.read_table(folder / "rows.parquet", columns=list(columns))


def _row_id(folder: Path, place: int) -> str:
    path = folder / "rows.parquet"
    if "row_id" not in pq.read_schema(path).names:
        return ""
    return str(pq.read_table(path, columns=["row_id"])["row_id"][place])


def _largest(table: pa.Table) -> int:
    found = [pc.max(pc.list_flatten(table[name])).as_py() for name in table.column_names]
    return max((int(each) for each in found if each is not None), default=-1)
