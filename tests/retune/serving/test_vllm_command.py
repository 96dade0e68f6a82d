"""The command of vLLM that is printed: computed from a model's files, or refused."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from retune.cli.app import app
from retune.errors import ConfigError
from retune.inference.engine_address import read_engine_address, read_engine_key
from retune.model_records import ScoredModel
from retune.registry.versions.proving import StoredAnswer, StoredAnswers
from retune.serving.messages import EngineSettings, ServedModel
from retune.serving.vllm_command import vllm_words
from tests.retune.registry.test_registering import write_model

SETTINGS = EngineSettings(batch=2, context=4096, default_tokens=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "m", 1)


def write_adapter(folder: Path, **changed: Any) -> Path:
    folder.mkdir()
    settings = {"peft_type": "LORA", "r": 12, "bias": "none", "use_dora": False} | changed
    (folder / "adapter_config.json").write_text(json.dumps(settings), "utf-8")
    return folder


def words_of(
    folder: Path, adapter: Path | None = None, context: int = 4096, **model: Any
) -> list[str]:
    scored = ScoredModel(digest="d", weights=folder, tokenizer=folder, adapter=adapter)
    served = ServedModel(name="sql", address="sql", scored=scored, **model)
    settings = SETTINGS.model_copy(update={"context": context})
    return vllm_words([served], settings, "127.0.0.1", 8001)


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def test_a_merged_version_is_served_under_its_own_name(folder: Path) -> None:
    """256 positions and bfloat16, as its configuration says."""
    words = words_of(folder, version=3)
    assert words == [
        *("vllm", "serve", str(folder), "--tokenizer", str(folder)),
        *("--served-model-name", "sql-3", "--dtype", "bfloat16", "--max-model-len", "256"),
        *("--max-logprobs", "20", "--generation-config", "vllm"),
        *("--host", "127.0.0.1", "--port", "8001"),
    ]


def test_the_dtype_is_that_of_the_stored_answers(folder: Path) -> None:
    """Others would round a near tie otherwise, and the proof would fail."""
    row = StoredAnswer(prompt_ids=(1,), answer=(2,))
    answers = StoredAnswers(made_on="cpu float32", max_new_tokens=1, rows=(row,))
    assert option(words_of(folder, answers=answers), "--dtype") == "float32"


def test_the_context_that_is_asked_for_counts_where_it_is_smaller(folder: Path) -> None:
    assert option(words_of(folder, context=64), "--max-model-len") == "64"


@pytest.mark.parametrize(("rank", "room"), [(12, "16"), (16, "16"), (17, "32")])
def test_an_adapter_is_served_over_its_base(
    folder: Path, tmp_path: Path, rank: int, room: str
) -> None:
    """With room for one of certain ranks, in which the largest of any layer fits."""
    adapter = write_adapter(tmp_path / "adapter", r=8, rank_pattern={"layers.1": rank})
    words = words_of(folder, adapter, version=3)
    assert words[2] == str(folder) and "--enable-lora" in words
    assert option(words, "--lora-modules") == f"sql-3={adapter}"
    assert option(words, "--served-model-name") == "sql-3-base"
    assert option(words, "--max-lora-rank") == room


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"peft_type": "PREFIX_TUNING"}, "'PREFIX_TUNING'"),
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"], "bias": "all"}, "modules_to_save, bias"),
        ({"r": 513}, "512 at most"),
    ],
)
def test_what_vllm_would_serve_otherwise_is_refused(
    folder: Path, tmp_path: Path, changed: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        words_of(folder, write_adapter(tmp_path / "adapter", **changed))


def test_the_command_is_printed_as_a_shell_reads_it(folder: Path, tmp_path: Path) -> None:
    """And nothing else; where it listens is where `--engine` asks, by a name from all addresses."""
    spaced = tmp_path / "a model"
    shutil.copytree(folder, spaced)
    engine = ["--engine", "http://vllm:9000", "--engine-model", "x"]
    done = CliRunner().invoke(app, ["serve", str(spaced), "--print-vllm", *engine])
    assert done.exit_code == 0, done.output
    words = shlex.split(done.output)
    assert words[:3] == ["vllm", "serve", str(spaced)]
    assert option(words, "--served-model-name") == "x"
    assert words[-4:] == ["--host", "0.0.0.0", "--port", "9000"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--engine", "vllm:8001"), "expected the address of a server"),
        (("--engine", "http://me:secret@vllm:8001"), "RETUNE_ENGINE_KEY"),
        (("--engine", "http://vllm:port"), "expected the address of a server"),
        (("--engine-model", "x"), "say which with --engine"),
    ],
)
def test_a_wrong_engine_is_refused_before_anything_starts(
    folder: Path, words: tuple[str, ...], told: str
) -> None:
    done = CliRunner().invoke(app, ["serve", str(folder), *words])
    assert isinstance(done.exception, ConfigError)
    assert told in str(done.exception) and "secret" not in str(done.exception)


@pytest.mark.parametrize("text", ["http://a:1", "http://a:1/", "http://a:1/v1", "http://a:1/v1/"])
def test_an_address_is_read_with_and_without_its_version(text: str) -> None:
    assert read_engine_address(text) == "http://a:1/v1"


def test_an_empty_key_is_none() -> None:
    assert read_engine_key({"RETUNE_ENGINE_KEY": " "}) is None
    assert read_engine_key({"RETUNE_ENGINE_KEY": "k\n"}) == "k"


def adapted(name: str, weights: Path, adapter: Path | None) -> ServedModel:
    scored = ScoredModel(digest="d", weights=weights, tokenizer=weights, adapter=adapter)
    return ServedModel(name=name, address=name, scored=scored, version=3)


def test_adapters_over_one_base_are_served_by_one_command(folder: Path, tmp_path: Path) -> None:
    """With room for the largest rank, and for all of them in one batch."""
    ranks = {"a": 8, "b": 30}
    models = [
        adapted(name, folder, write_adapter(tmp_path / name, r=rank))
        for name, rank in ranks.items()
    ]
    words = vllm_words(models, SETTINGS, "127.0.0.1", 8001)
    at = words.index("--lora-modules")
    assert words[at + 1 : at + 3] == [f"a-3={tmp_path / 'a'}", f"b-3={tmp_path / 'b'}"]
    assert (option(words, "--max-loras"), option(words, "--max-lora-rank")) == ("2", "32")


def test_models_that_one_vllm_cannot_hold_are_refused(folder: Path, tmp_path: Path) -> None:
    """A whole model beside an adapter, and adapters over two bases."""
    adapter = write_adapter(tmp_path / "a")
    first = adapted("a", folder, adapter)
    with pytest.raises(ConfigError, match="whole: is no adapter, and one vLLM"):
        vllm_words([first, adapted("whole", folder, None)], SETTINGS, "127.0.0.1", 8001)
    with pytest.raises(ConfigError, match=r"b: stands on .*, and a on .*; one vLLM has one base"):
        vllm_words([first, adapted("b", adapter, adapter)], SETTINGS, "127.0.0.1", 8001)
