"""Both engines choose the same tokens, heads name classes, and text is told when it is settled."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig

from retune.data.chats.tokenizers import end_token_ids, load_tokenizer
from retune.inference.generation import write_answers
from retune.inference.jobs import Chosen, Engine, Job
from retune.inference.loaded_models import LoadedModel, load_parts
from retune.model_records import ScoredModel
from retune.modeling.heads import add_head
from retune.serving.answers import AnswerWriter
from retune.serving.choosing import NOT_FINITE, choose, choose_tokens
from retune.serving.engines import open_engine
from retune.serving.messages import (
    REPORTS,
    Ask,
    Classified,
    Delta,
    EngineSettings,
    Finished,
    Refused,
    ServedModel,
)
from retune.serving.padded_engine import PaddedEngine, fill_batch
from retune.serving.paged_engine import PagedEngine, count_pages
from retune.serving.worker import ENGINE_DIED, Answerer, Reports, tell_busy
from tests.retune.registry.test_registering import write_model

PROMPTS = [list(text.encode()) for text in ("a", "which rows", "SELECT count(*)", "x y z", "bbb")]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "m", 1)


def load(folder: Path) -> LoadedModel:
    tokenizer = load_tokenizer(folder)
    ends = end_token_ids(tokenizer, folder)
    options = {"tokenizer": tokenizer, "end_ids": ends, "dtype": torch.float32, "device": CPU}
    return load_parts(folder, None, **options)  # type: ignore[arg-type]


@pytest.fixture(params=[PagedEngine, PaddedEngine])
def engine(request: pytest.FixtureRequest, folder: Path) -> Iterator[tuple[Engine, LoadedModel]]:
    loaded = load(folder)
    made = request.param(loaded, 2, 256)
    yield made, loaded
    made.close()


class Written:
    """One answer: what came of it, or why not."""

    def __init__(self, name: str, prompt: Sequence[int], tokens: int, **options: object) -> None:
        self.chosen: list[Chosen] = []
        self.failed = ""
        self._done, self._tokens = threading.Event(), tokens
        self.job = Job(name, prompt, tokens, self._take, self._fail, **options)  # type: ignore[arg-type]

    def _take(self, chosen: Chosen) -> bool:
        self.chosen.append(chosen)
        if len(self.chosen) == self._tokens:
            self._done.set()
        return False

    def _fail(self, reason: str) -> None:
        self.failed = reason
        self._done.set()

    def tokens(self) -> list[int]:
        assert self._done.wait(600)
        return [each.token for each in self.chosen]


def test_an_engine_writes_what_scoring_writes(engine: tuple[Engine, LoadedModel]) -> None:
    """More prompts than a batch takes, of unequal length, all at once."""
    made, loaded = engine
    expected = write_answers(loaded, PROMPTS, max_new_tokens=12, batch_size=3)

    written = [Written(f"greedy-{at}", each, 12) for at, each in enumerate(PROMPTS)]
    for each in written:
        made.submit(each.job)

    assert [each.tokens() for each in written] == [list(each.ids) for each in expected]


def test_what_a_prompt_shares_with_one_before_it_is_not_read_again(folder: Path) -> None:
    """Prompts of 40 tokens that begin alike: the second one joins the first one's pages.

    Pages of 16 tokens: two of them are whole within 39 tokens that are alike. Answers are those of
    plain generation all the same.
    """
    loaded = load(folder)
    prompts = [[*range(30, 69), last] for last in (80, 90)]
    expected = write_answers(loaded, prompts, max_new_tokens=6, batch_size=1)
    made, read = PagedEngine(loaded, 2, 256), list[int]()
    forward = loaded.model.forward

    def count(*args: Any, **named: Any) -> Any:
        read.append(named["input_ids"].shape[1])
        return forward(*args, **named)

    loaded.model.forward = count
    written = []
    for at, prompt in enumerate(prompts):
        written.append(Written(f"alike-{at}", prompt, 6))
        made.submit(written[-1].job)
        written[-1].tokens()
    made.close()

    assert [each.tokens() for each in written] == [list(each.ids) for each in expected]
    assert [tokens for tokens in read if tokens > 1] == [40, 40 - 2 * 16]


def test_both_engines_draw_the_same_for_a_seed(folder: Path) -> None:
    """Whatever else is in the batch: alone in one, beside greedy answers in the other."""

    def draw(made: Engine, beside: int) -> list[int]:
        drawn = Written("drawn", PROMPTS[1], 12, temperature=1.3, top_p=0.9, seed=4)
        others = [Written(f"other-{at}", PROMPTS[at], 12) for at in range(beside)]
        for each in (*others, drawn):
            made.submit(each.job)
        found = drawn.tokens()
        made.close()
        return found

    alone = draw(PaddedEngine(load(folder), 4, 256), 0)
    assert alone == draw(PagedEngine(load(folder), 4, 256), 3)


def test_broken_weights_fail_an_answer_and_not_the_engine(folder: Path) -> None:
    loaded = load(folder)
    weight = loaded.model.get_output_embeddings().weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[0] = torch.nan
    made = PaddedEngine(loaded, 2, 256)
    broken = Written("broken", PROMPTS[0], 3)
    made.submit(broken.job)
    broken.tokens()
    with torch.no_grad():
        weight.copy_(kept)
    whole = Written("whole", PROMPTS[0], 3)
    made.submit(whole.job)

    assert broken.failed == NOT_FINITE
    assert len(whole.tokens()) == 3
    made.close()


@pytest.mark.parametrize("temperature", [1e-308, 5e-324, 9e-6])
def test_a_temperature_of_almost_nothing_is_greedy(temperature: float) -> None:
    """Divided by it, logits would be infinite, and their probabilities no numbers."""
    written = Written("cold", [1], 2, temperature=temperature, seed=1)

    assert choose(written.job, torch.tensor([1e4, -3e4, 2.0]), 0) == 0


def test_an_answer_that_cannot_be_written_fails_alone() -> None:
    """The likeliest of both rows is 1; the first one's taker raises."""
    broken, whole = Written("broken", [1], 2), Written("whole", [1], 2)
    broken.job.take = lambda chosen: bool(1 // 0)

    tokens = choose_tokens(torch.tensor([[0.0, 1.0]] * 2), [broken.job, whole.job], 7)

    assert tokens == [7, 1]
    assert broken.failed.startswith("ZeroDivisionError")
    assert broken.job.ended and not whole.job.ended


def test_an_engine_whose_thread_dies_says_so_and_the_process_ends(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the library's loop ends it for good: nothing would be answered any more."""

    def end(code: int) -> None:
        raise SystemExit(code)

    made = PagedEngine(load(folder), 2, 256)
    assert made.alive
    monkeypatch.setattr("retune.serving.paged_engine.choose_tokens", lambda *_: 1 // 0)
    monkeypatch.setattr("os._exit", end)
    lost = Written("lost", PROMPTS[0], 3)
    made.submit(lost.job)
    assert lost.tokens() == [] and lost.failed

    with pytest.raises(SystemExit) as ended:
        tell_busy(made, Reports(io.StringIO()))
    assert ended.value.code == ENGINE_DIED
    late = Written("late", PROMPTS[0], 3)
    made.submit(late.job)
    assert late.tokens() == [] and late.failed


def test_an_answer_cancelled_before_it_was_begun_is_not_computed(
    engine: tuple[Engine, LoadedModel],
) -> None:
    """As those of `n` are whose first one fails at once."""
    made, _ = engine
    cancelled, whole = Written("cancelled", PROMPTS[0], 3), Written("whole", PROMPTS[0], 3)
    made.cancel(cancelled.job)
    for each in (cancelled, whole):
        made.submit(each.job)

    assert len(whole.tokens()) == 3
    assert cancelled.chosen == []
    assert made.counts().running + made.counts().waiting <= 1


def test_an_answer_that_is_cancelled_is_not_computed_on(
    engine: tuple[Engine, LoadedModel],
) -> None:
    """After its third token; the one beside it is written to its end."""
    made, _ = engine
    cancelled, whole = Written("cancelled", PROMPTS[0], 100), Written("whole", PROMPTS[1], 30)

    def take(chosen: Chosen) -> bool:
        cancelled.chosen.append(chosen)
        if len(cancelled.chosen) == 3:
            made.cancel(cancelled.job)
        return cancelled.job.ended

    cancelled.job.take = take
    for each in (cancelled, whole):
        made.submit(each.job)

    assert len(whole.tokens()) == 30
    assert len(cancelled.chosen) == 3


def test_a_request_that_fails_is_taken_out_of_the_engine_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All three choices, also the one whose failure ended it: the engine would go on with it."""
    told, file = threading.Condition(), io.StringIO()
    scored = ScoredModel(digest="d", weights=folder, tokenizer=folder)
    served = ServedModel(name="m", address="m", scored=scored)
    settings = EngineSettings(batch=4, context=256, default_tokens=8)
    answerer = Answerer(served, settings, _Told(file, told))
    assert answerer.engine is not None
    cancelled: set[str] = set()
    cancel = answerer.engine.cancel

    def note(job: Job) -> None:
        cancelled.add(job.key)
        cancel(job)

    monkeypatch.setattr(answerer.engine, "cancel", note)
    monkeypatch.setattr(AnswerWriter, "take", lambda *_: 1 // 0)

    answerer.ask(Ask(id="1", prompt="x", n=3, max_tokens=100))

    with told:
        assert told.wait_for(lambda: file.getvalue(), 600)
    refused = REPORTS.validate_json(file.getvalue().splitlines()[0])
    assert isinstance(refused, Refused)
    assert (refused.code, refused.fault) == ("engine_error", "server")
    assert cancelled == {"1/0", "1/1", "1/2"}
    answerer.engine.close()


def test_a_batch_holds_what_fits_the_context_together() -> None:
    """Of 10 tokens: a prompt of 8 with an answer of 2 and one of 1 with 9 would have 8 + 9."""
    sizes = [(8, 2), (1, 9), (4, 2), (2, 1), (3, 2)]
    jobs = [Written(str(at), [0] * prompt, tokens).job for at, (prompt, tokens) in enumerate(sizes)]

    taken, later = fill_batch(jobs, batch=3, context=10)

    assert [job.key for job in taken] == ["0", "2", "3"]
    assert [job.key for job in later] == ["1", "4"]


def test_a_model_that_pages_wrongly_is_served_in_batches(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages whose tokens are others than those of plain generation are not used."""
    loaded = load(folder)
    before = loaded.model.config._attn_implementation
    monkeypatch.setattr(
        "retune.serving.paged_engine.choose_tokens", lambda logits, jobs, idle: _worst(logits, jobs)
    )

    made, name = open_engine(loaded, 2, 256)

    assert name == "padded"
    assert loaded.model.config._attn_implementation == before
    written = Written("after", PROMPTS[0], 4)
    made.submit(written.job)
    [expected] = write_answers(loaded, PROMPTS[:1], max_new_tokens=4, batch_size=1)
    assert written.tokens() == list(expected.ids)
    made.close()


def _worst(logits: torch.Tensor, jobs: Sequence[Job | None]) -> list[int]:
    tokens = logits.argmin(-1).tolist()
    for token, job in zip(tokens, jobs, strict=True):
        if job is not None:
            choose(job, -logits[0], token)
    return [int(each) for each in tokens]


def test_a_cache_is_what_answers_need_within_a_third_of_the_memory() -> None:
    """Two layers of 2 heads, 16 wide, in 4 bytes: 2 x 2 x 2 x 16 x 256 x 4 = 131,072 a page.

    An answer of 300 tokens fills two pages and takes a third one ahead.
    """
    config = LlamaConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
    )

    def pages(memory: int) -> int:
        return count_pages(
            config,
            batch=4,
            context=300,
            page_tokens=256,
            element_bytes=4,
            memory_bytes=memory,
        )

    assert pages(10**12) == 4 * 3
    assert pages(3 * 131_072 * 7) == 7
    assert pages(1) == 3


def test_top_p_keeps_the_likeliest_tokens_alone() -> None:
    """Of probabilities 0.5, 0.3, 0.2 a top_p of 0.6 keeps two: the second one passes it."""
    logits = torch.tensor([0.2, 0.5, 0.3]).log()
    drawn = set()
    for seed in range(60):
        written = Written(f"p-{seed}", [1], 2, temperature=1.0, top_p=0.6, seed=seed)
        drawn.add(choose(written.job, logits, 1))

    assert drawn == {1, 2}


def test_a_head_names_the_classes_of_a_chat(folder: Path, tmp_path: Path) -> None:
    """Probabilities add up to 1, the likeliest first; what only writers do is refused."""
    model = add_head(
        folder, labels=("bom", "ruim"), pad_token_id=256, dtype=torch.float32, device=CPU
    )
    model.save_pretrained(tmp_path)
    load_tokenizer(folder).save_pretrained(tmp_path)
    scored = ScoredModel(digest="d", weights=tmp_path, tokenizer=tmp_path)
    told, file = threading.Condition(), io.StringIO()
    served = ServedModel(name="m", address="m", scored=scored)
    settings = EngineSettings(batch=2, context=256, default_tokens=8)
    reports = _Told(file, told)
    answerer = Answerer(served, settings, reports)
    chat = ({"role": "user", "content": "muito bom"},)

    answerer.ask(Ask(id="1", messages=chat, classify=True))
    answerer.ask(Ask(id="2", messages=chat))

    with told:
        assert told.wait_for(lambda: file.getvalue().count("\n") == 2, 600)
    found = {each.id: each for each in map(REPORTS.validate_json, file.getvalue().splitlines())}  # type: ignore[union-attr]
    classified, refused = found["1"], found["2"]
    assert isinstance(classified, Classified)
    values = list(classified.probabilities.values())
    assert set(classified.probabilities) == {"bom", "ruim"}
    assert values == sorted(values, reverse=True)
    assert sum(values) == pytest.approx(1)
    assert "has a head and names classes" in refused.message  # type: ignore[union-attr]


class _Told(Reports):
    def __init__(self, file: io.StringIO, told: threading.Condition) -> None:
        super().__init__(file)
        self._told = told

    def send(self, report: object) -> None:
        super().send(report)  # type: ignore[arg-type]
        with self._told:
            self._told.notify_all()


def write(
    folder: Path, text: str, *, thinks: bool = False, **options: object
) -> list[Delta | Finished]:
    """Let a writer take a text byte by byte, as the tokenizer of one token a byte has it."""
    told: list[Delta | Finished] = []
    ask = Ask(id="1", stream=True, **options)  # type: ignore[arg-type]
    tokenizer = load_tokenizer(folder)
    writer = AnswerWriter(
        ask,
        0,
        tokenizer=tokenizer,
        end_ids=[256],
        prompt_tokens=1,
        max_tokens=200,
        thinks=thinks,
        tell=told.append,
    )
    for token in [*tokenizer(text, add_special_tokens=False)["input_ids"], 256]:
        if writer.take(Chosen(int(token))):
            break
    return told


CHAT = ({"role": "user", "content": "x"},)


def test_a_stop_string_is_never_shown_even_in_part(folder: Path) -> None:
    told = write(folder, "SELECT 1;; more", messages=CHAT, stop=(";; m",))

    assert "".join(each.text for each in told) == "SELECT 1"
    assert not any(";" in each.text for each in told)


@pytest.mark.parametrize(
    ("text", "stop", "shown"),
    [("x 日本 y", "日本", "x"), ("1;é 2", ";é", "1"), ("日月é", "月é", "日")],
)
def test_nor_where_a_character_of_it_is_not_whole_yet(
    folder: Path, text: str, stop: str, shown: str
) -> None:
    told = write(folder, text, messages=CHAT, stop=(stop,))

    assert "".join(each.text for each in told).strip() == shown
    assert not any(character in each.text for each in told for character in stop)


def test_a_thought_that_the_prompt_opens_is_neither_shown_nor_searched(folder: Path) -> None:
    """Characters of several bytes and a stop string stand in it; after it, chunks are told."""
    thought = "é; 日\n</think>\n\n"

    told = write(folder, f"{thought}SELECT é; 2", thinks=True, messages=CHAT, stop=(";",))

    texts = [each.text for each in told if each.text]
    assert "".join(texts) == "SELECT é"
    assert len(texts) > 5


def test_no_stop_string_is_looked_for_in_the_beginning_of_a_thought(folder: Path) -> None:
    text = "<think>\nlong\n</think>\n\nSELECT 1 think"

    told = write(folder, text, messages=CHAT, stop=("think",))

    assert "".join(each.text for each in told).strip() == "SELECT 1"


def test_a_thought_that_is_never_closed_is_shown_at_its_end_as_it_is_scored(folder: Path) -> None:
    told = write(folder, "SELECT 1", thinks=True, messages=CHAT)

    assert [each.text for each in told] == ["SELECT 1"]


def test_a_character_of_several_tokens_is_told_whole(folder: Path) -> None:
    """Each of its bytes is a token; alone they are no character."""
    told = write(folder, "é 日", prompt="x")

    assert [each.text for each in told if each.text] == ["é", " ", "日"]


def test_a_thought_is_not_shown(folder: Path) -> None:
    told = write(folder, "<think>\nlong\n</think>\n\n SELECT 1 ", messages=CHAT)

    assert "".join(each.text for each in told) == "SELECT 1"


def test_what_only_begins_like_a_thought_is_told(folder: Path) -> None:
    told = write(folder, "<this> is", messages=CHAT)

    assert "".join(each.text for each in told) == "<this> is"
