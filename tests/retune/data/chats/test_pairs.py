"""Pairs of answers: read with care, refused before any training, split by what they ask."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retune.data.chats.pairs import format_pairs, read_pairs
from retune.data.chats.tokenizers import load_tokenizer
from retune.data.preferences import is_held_back, locate_preferences, read_preferences
from retune.data.stages import PairsInputs, PairsSettings
from retune.data.tables import read_rows
from retune.errors import DataError
from retune.model_records import BaseRef
from retune.records import ChatRef, PairsRef, Source
from retune.spine.stage import Workdir
from tests.making import make_workdir, settings_of

Write = Callable[..., Source]


def pair(place: int = 0, **changed: Any) -> dict[str, Any]:
    """One good pair."""
    return {"prompt": f"Quantas cidades? ({place})", "chosen": "8", "rejected": "9", **changed}


def encode(
    source: Source, base: BaseRef, chats: ChatRef, work: Workdir, **settings: Any
) -> PairsRef:
    """Run the stage."""
    prompt = {"max_length": settings.pop("max_length", 512), "system": settings.pop("system", None)}
    return format_pairs(
        PairsInputs(pairs=source, base=base, template=None, held_out=chats.side("test")),
        settings_of(
            PairsSettings,
            prompt=prompt,
            dpo={"pairs": "p", "validation_fraction": 0.0, **settings},
        ),
        work,
    )


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"prompt": "a", "chosen": "b"}', ":2: no 'rejected'"),
        (b'{"prompt": "a", "chosen": "b", "rejected": " b "}', ":2: chosen and rejected are the"),
        (b'{"prompt": "a", "chosen": "", "rejected": "b"}', ":2: 'chosen' is empty"),
        (b'{"prompt": [], "chosen": "c", "rejected": "b"}', ":2: the prompt is empty"),
        (
            b'{"prompt": [{"role": "boss", "content": "x"}], "chosen": "c", "rejected": "b"}',
            ":2: a",
        ),
        (b"not json", ":2: expected one JSON object"),
    ],
)
def test_a_broken_line_is_named(write_rows: Write, line: bytes, says: str) -> None:
    """File, line, and what is wrong with it."""
    source = write_rows([pair(), line])
    with pytest.raises(DataError, match=says):
        locate_preferences(source.path)


def test_no_file_and_no_pairs(tmp_path: Path, write_rows: Write) -> None:
    """Both are told by the recipe's key."""
    with pytest.raises(DataError, match=r"dpo\.pairs: .* does not exist"):
        locate_preferences(tmp_path / "absent.jsonl")
    with pytest.raises(DataError, match="holds no pairs"):
        locate_preferences(write_rows([b"", b""]).path)


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "tsv", "jsonl.gz", "parquet"])
def test_pairs_are_read_from_every_kind_of_file(tmp_path: Path, ending: str) -> None:
    """The same two pairs, with the line where each begins; in Parquet their number."""
    pairs = [pair(0), pair(1)]
    path = tmp_path / f"pairs.{ending}"
    sign = "\t" if ending == "tsv" else ","
    table = [sign.join(each.values()) for each in pairs]
    contents = {
        "jsonl": "\n".join(map(json.dumps, pairs)),
        "json": json.dumps(pairs, indent=0),
        "csv": "\n".join([sign.join(pairs[0]), *table]),
        "tsv": "\n".join([sign.join(pairs[0]), *table]),
    }
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(pairs), path)
    else:
        text = contents[ending.removesuffix(".gz")].encode()
        path.write_bytes(gzip.compress(text) if ending.endswith("gz") else text)
    locate_preferences(path)
    found = read_preferences(path)
    assert [(each.question, each.chosen, each.rejected) for each in found] == [
        (each["prompt"], each["chosen"], each["rejected"]) for each in pairs
    ]
    lines = {"json": [2, 7], "csv": [2, 3], "tsv": [2, 3]}.get(ending, [1, 2])
    assert [each.line for each in found] == lines


def test_pairs_in_another_encoding(tmp_path: Path) -> None:
    """Read where it is stated, else refused with the one that they seem to be in."""
    path = tmp_path / "pairs.csv"
    path.write_bytes("prompt,chosen,rejected\nQuem não é?,manutenção,x\n".encode("cp1252"))
    assert read_preferences(path, "cp1252")[0].chosen == "manutenção"
    with pytest.raises(DataError, match=r"pairs.csv:2: is not UTF-8 .* data.encoding: cp1252"):
        locate_preferences(path)
    with pytest.raises(DataError, match=r"^dpo\.pairs: .* an ending that is not known"):
        locate_preferences(path.rename(tmp_path / "pairs.txt"))


def test_many_broken_lines_are_counted(write_rows: Write) -> None:
    """Seven of eight lines, of which five are shown."""
    source = write_rows([pair(), *[pair(rejected="8")] * 7])
    with pytest.raises(DataError, match="7 of 8 lines are no pairs") as caught:
        read_preferences(source.path)
    assert "and 2 more" in str(caught.value)


def test_a_pair_is_written_as_rows_are(
    write_rows: Write, base: BaseRef, chats: ChatRef, work: Workdir
) -> None:
    """By the template, with the recipe's system message, and an end token behind each answer."""
    pairs = encode(write_rows([pair()]), base, chats, work, system="Conte.")
    (row,) = read_pairs(pairs, validation=False)
    tokenizer = load_tokenizer(base.folder)
    asked = [
        {"role": "system", "content": "Conte."},
        {"role": "user", "content": "Quantas cidades? (0)"},
    ]
    text = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert row["prompt_ids"] == tokenizer(text, add_special_tokens=False)["input_ids"]
    for name, answer in (("chosen_ids", "8"), ("rejected_ids", "9")):
        assert tokenizer.decode(row[name][:-1]).strip() == answer
        assert row[name][-1] == tokenizer.eos_token_id


def test_messages_are_kept(write_rows: Write, base: BaseRef, chats: ChatRef, work: Workdir) -> None:
    """A prompt of one user message is the same as its text."""
    turns = [{"role": "user", "content": "Quantas cidades? (0)"}]
    pairs = encode(write_rows([pair(), pair(prompt=turns)]), base, chats, work)
    first, second = read_pairs(pairs, validation=False)
    assert first["prompt_ids"] == second["prompt_ids"]


def test_no_answer_is_cut(write_rows: Write, base: BaseRef, chats: ChatRef, work: Workdir) -> None:
    """A pair that is too long is refused with its line, its length and the limit."""
    source = write_rows([pair(), pair(1, rejected="cidade " * 200)])
    with pytest.raises(DataError, match=r"1 of 2 lines are over prompt\.max_length, 64 tokens"):
        encode(source, base, chats, work, max_length=64)


def test_a_prompt_of_the_held_out_side_is_refused(
    write_rows: Write, base: BaseRef, chats: ChatRef, work: Workdir
) -> None:
    """What the final scores ask must not be trained on by another door."""
    asked = read_rows(chats.side("test").folder / "rows.parquet")[0]
    schemas = read_rows(chats.side("test").folder / "databases.parquet")
    schema = next(each["schema"] for each in schemas if each["db_id"] == asked["db_id"])
    source = write_rows([pair(), pair(prompt=f"{schema}\n{asked['question']}")])
    with pytest.raises(DataError, match="1 of 2 lines have the prompt of a held-out row"):
        encode(source, base, chats, work, max_length=1024)


def test_new_pairs_move_no_old_one(
    write_rows: Write, base: BaseRef, chats: ChatRef, tmp_path: Path
) -> None:
    """The side follows from the prompt alone, and pairs of one prompt stay together."""

    def held_back(pairs: PairsRef) -> set[str]:
        return {row["prompt"] for row in read_pairs(pairs, validation=True)}

    few = [pair(place) for place in range(40)]
    more = [pair(place, chosen=answer) for place in range(80) for answer in ("8", "7")]
    found = [
        encode(
            write_rows(rows, f"{len(rows)}.jsonl"),
            base,
            chats,
            make_workdir(tmp_path / str(len(rows))),
            validation_fraction=0.3,
        )
        for rows in (few, more)
    ]
    before, after = (held_back(pairs) for pairs in found)
    learned = {row["prompt"] for row in read_pairs(found[1], validation=False)}
    assert before
    assert before < after
    assert not after & learned
    assert found[1].validation == 2 * len(after)


def test_too_few_prompts_to_measure_are_told(
    write_rows: Write, base: BaseRef, chats: ChatRef, work: Workdir
) -> None:
    """One pair cannot be on both sides: nothing held back is said, not passed over."""
    source = write_rows([pair(0)])
    held = is_held_back(read_preferences(source.path)[0], 0.001)
    assert not held
    with pytest.raises(DataError, match="too few prompts"):
        encode(source, base, chats, work, validation_fraction=0.001)
    with pytest.raises(DataError, match="none is left to train"):
        encode(source, base, chats, work, validation_fraction=0.999999)


def test_a_changed_file_is_noticed(
    write_rows: Write, base: BaseRef, chats: ChatRef, work: Workdir
) -> None:
    """The digest is part of the key; other bytes must not be trained on under it."""
    source = write_rows([pair()])
    source.path.write_text(json.dumps(pair(3)) + "\n", "utf-8")
    with pytest.raises(DataError, match="changed since the run began"):
        encode(source, base, chats, work)
