"""An engine elsewhere: asked for exactly what was scored, and never believed without a proof."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from retune.errors import ConfigError
from retune.inference.remote_engine import EngineAway, RemoteEngine
from retune.model_records import ScoredModel
from retune.registry.versions.proving import StoredAnswer, StoredAnswers
from retune.serving.finding import ModelSource
from retune.serving.messages import (
    REPORTS,
    Ask,
    Away,
    EngineSettings,
    Finished,
    Load,
    Refused,
    RemoteSettings,
    ServedModel,
    Unfit,
)
from retune.serving.worker import ENGINE_DIED, Answerer, Reports, open_answerer, tell_busy
from tests.retune.registry.test_registering import Bench, write_model
from tests.retune.serving.conftest import NAME, Served
from tests.retune.serving.engine_stand_in import (
    END,
    Fault,
    StandInEngine,
    drawn,
    standing_in,
)
from tests.waiting import GUARD_SECONDS, closed_port, free_port, wait_until

TEMPLATE = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
KEY = "engine-secret-5f1c"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = write_model(tmp_path_factory.mktemp("model") / "m", 1)
    (made / "chat_template.jinja").write_text(TEMPLATE, "utf-8")
    return made


@pytest.fixture
def engine() -> Iterator[StandInEngine]:
    with standing_in() as made:
        yield made


def ids(text: str) -> list[int]:
    """Return the ids of ASCII letters: the tokenizer numbers them from the exclamation mark on."""
    return [ord(each) - ord("!") for each in text]


def letter(token: int) -> str:
    return chr(token + ord("!"))


class Worker:
    """What a server's process does: its answerer, and what it reported."""

    def __init__(self, folder: Path, address: str, **model: Any) -> None:
        self._file = io.StringIO()
        self.load = Load(
            model=ServedModel(
                name="m",
                address="m",
                scored=ScoredModel(digest="d", weights=folder, tokenizer=folder),
                **model,
            ),
            settings=EngineSettings(
                batch=4,
                context=256,
                default_tokens=8,
                remote=RemoteSettings(address=address, seconds=60),
            ),
        )
        self.reports = Reports(self._file)

    def open(self) -> Answerer:
        self.answerer = Answerer(self.load.model, self.load.settings, self.reports)
        return self.answerer

    def told(self) -> list[Any]:
        lines = self._file.getvalue().splitlines()
        return [REPORTS.validate_json(line) for line in lines]

    def ask(self, **order: Any) -> list[Any]:
        """Return what comes of one request, once it is whole."""
        before, wanted = len(self.told()), order.get("n", 1)

        def ended() -> bool:
            found = self.told()[before:]
            return any(isinstance(each, Refused) for each in found) or wanted <= sum(
                isinstance(each, Finished) for each in found
            )

        self.answerer.ask(Ask(id="1", **order))
        wait_until(ended, what="an answer", every=0.005)
        return self.told()[before:]


@pytest.fixture
def worker(folder: Path, engine: StandInEngine) -> Iterator[Worker]:
    made = Worker(folder, engine.address)
    answerer = made.open()
    engine.asked.clear()
    yield made
    assert answerer.engine is not None
    answerer.engine.close()


def stored(*rows: tuple[list[int], list[int]]) -> StoredAnswers:
    return StoredAnswers(
        made_on="cpu float32",
        max_new_tokens=8,
        rows=tuple(
            StoredAnswer(prompt_ids=tuple(prompt), answer=tuple(answer)) for prompt, answer in rows
        ),
    )


def test_the_engine_is_sent_the_very_ids_and_every_setting(
    worker: Worker, engine: StandInEngine
) -> None:
    """A chat as the template writes it, greedy; what an engine could have a default for is said."""
    [answer] = worker.ask(messages=({"role": "user", "content": "hi"},), max_tokens=20)

    assert engine.asked == [
        {
            "model": "m",
            "prompt": ids("<user>hi"),
            "max_tokens": 20,
            "temperature": 0.0,
            "top_p": 1.0,
            "stream": True,
            "return_token_ids": True,
            "stop_token_ids": [END],
            "ignore_eos": True,
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
        }
    ]
    assert (answer.text, answer.reason, answer.tokens) == ("ih>resu<", "stop", 8)


def test_each_choice_is_drawn_with_a_seed_of_its_own(worker: Worker, engine: StandInEngine) -> None:
    """Seed 4 and the next one, with temperature and top_p as they were asked for."""
    order = {"temperature": 0.7, "top_p": 0.9, "seed": 4, "n": 2, "max_tokens": 5}
    answers = worker.ask(prompt="ab", **order)

    assert sorted((each["seed"], each["temperature"], each["top_p"]) for each in engine.asked) == [
        (4, 0.7, 0.9),
        (5, 0.7, 0.9),
    ]
    texts = {each.choice: each.text for each in answers}
    assert texts == {choice: "".join(map(letter, drawn(4 + choice, 5))) for choice in (0, 1)}
    assert {each.reason for each in answers} == {"length"}


def test_a_stop_string_ends_an_answer_that_the_engine_would_go_on_with(
    worker: Worker, engine: StandInEngine
) -> None:
    """The connection is closed, on which an engine computes no more."""
    engine.fault = "endless"
    [answer] = worker.ask(prompt="x", stop=("aaa",), max_tokens=200)

    assert (answer.text, answer.reason) == ("", "stop")
    wait_until(lambda: engine.broken_off, what="a closed connection")


def test_a_request_that_nobody_waits_for_is_computed_no_further(
    worker: Worker, engine: StandInEngine
) -> None:
    engine.fault = "endless"
    worker.answerer.ask(Ask(id="2", prompt="x", max_tokens=200, stream=True))
    wait_until(worker.told, what="a first token")
    worker.answerer.cancel("2")
    wait_until(lambda: engine.broken_off, what="a closed connection")


def test_log_probabilities_are_told_by_ids(worker: Worker) -> None:
    """Two likeliest tokens; the chosen one stands among them at the engine and is none of them."""
    [answer] = worker.ask(prompt="ab", max_tokens=1, top_logprobs=2)

    [told] = answer.logprobs
    names = [worker.answerer._held.tokenizer.decode([each]) for each in (0, 1)]
    assert (told.token, told.logprob) == ("b", -9.0)
    assert told.top == ((names[0], -0.25), (names[1], -0.5))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("error", "the engine answers 500: the kernel broke"),
        ("error event", "the engine's error: the engine is dead"),
        ("cut", "broke the answer off after 1 tokens"),
        ("garbage", "no completion"),
        ("other prompt", "read another prompt than it was sent"),
        ("no prompt", "does not tell which token ids it read"),
        ("no ids", "does not tell the token ids of an answer"),
        ("no logprobs", "does not tell the log-probabilities"),
        ("texts", "names likeliest tokens by their texts"),
        ("own end", "ended the answer by itself after 2 of 9 tokens (stop)"),
        ("short", "ended the answer by itself after 1 of 9 tokens (length)"),
    ],
)
def test_a_wrong_answer_is_an_error_with_its_reason(
    worker: Worker, engine: StandInEngine, fault: Fault, reason: str
) -> None:
    """It ends that answer alone: the next one is answered."""
    engine.fault = fault
    *_, refused = worker.ask(prompt="ab", max_tokens=9, top_logprobs=1)
    assert isinstance(refused, Refused)
    assert reason in refused.message
    assert (refused.code, refused.fault) == ("engine_error", "server")

    engine.fault = "none"
    [answer] = worker.ask(prompt="ab", max_tokens=9)
    assert answer.text == "ba"


def test_an_engine_that_writes_nothing_is_not_waited_for_for_ever(
    worker: Worker, engine: StandInEngine
) -> None:
    """It is there still, and asked on."""
    made = worker.answerer.engine
    assert isinstance(made, RemoteEngine)
    made._client.timeout = httpx.Timeout(0.05, connect=60)
    engine.fault = "silent"
    [refused] = worker.ask(prompt="ab", max_tokens=9)
    assert (refused.code, refused.message) == (
        "engine_error",
        "the engine is too slow (ReadTimeout)",
    )
    assert made.alive


def test_an_end_token_that_is_told_of_and_left_out_ends_an_answer(
    worker: Worker, engine: StandInEngine
) -> None:
    engine.fault = "end told alone"
    [answer] = worker.ask(prompt="ab", max_tokens=9)
    assert (answer.text, answer.reason, answer.tokens) == ("ba", "stop", 2)


def test_an_engine_that_goes_away_in_an_answer_ends_the_process_with_its_reason(
    worker: Worker, engine: StandInEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits is told to ask again; another process waits for the engine, and proves it."""
    engine.fault = "gone"
    *_, refused = worker.ask(prompt="ab", max_tokens=9)
    assert (refused.code, refused.fault) == ("engine_away", "engine")
    assert "the engine cannot be reached" in refused.message

    def end(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr("os._exit", end)
    assert worker.answerer.engine is not None
    with pytest.raises(SystemExit) as ended:
        tell_busy(worker.answerer.engine, worker.reports)
    assert ended.value.code == ENGINE_DIED
    assert worker.told()[-1] == Away(reason=refused.message)


@pytest.mark.parametrize("changed", ["root", "context"])
def test_another_model_under_the_name_is_seen_without_a_request(
    folder: Path, engine: StandInEngine, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    """Whoever started the engine anew may have given it another version, or less room."""
    monkeypatch.setattr("retune.inference.remote_engine.WATCH_SECONDS", 0.01)
    made = Worker(folder, engine.address).open().engine
    assert isinstance(made, RemoteEngine) and made.alive

    setattr(engine, changed, "other" if changed == "root" else 64)

    wait_until(lambda: not made.alive, what="a look at the engine")
    assert made.away == "the engine has another model under the name 'm' now"
    made.close()


def test_a_key_is_sent_and_never_told(
    folder: Path, engine: StandInEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it, and with a wrong one, the reason names the variable."""
    engine.key = KEY
    for key in ("", "wrong-" + KEY):
        monkeypatch.setenv("RETUNE_ENGINE_KEY", key)
        with pytest.raises(EngineAway, match="RETUNE_ENGINE_KEY") as away:
            Worker(folder, engine.address).open()
        assert KEY not in str(away.value) + away.value.reason

    monkeypatch.setenv("RETUNE_ENGINE_KEY", KEY)
    made = Worker(folder, engine.address)
    found = made.open().engine
    assert found is not None and found.alive
    found.close()
    assert KEY not in made.load.model_dump_json()


def test_a_key_that_no_header_takes_is_refused_unseen(
    folder: Path, engine: StandInEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETUNE_ENGINE_KEY", f"{KEY}\nX: y")
    with pytest.raises(ConfigError, match="RETUNE_ENGINE_KEY") as refused:
        Worker(folder, engine.address).open()
    assert KEY not in str(refused.value)


def test_an_engine_that_is_not_there_is_away(folder: Path) -> None:
    with closed_port() as port, pytest.raises(EngineAway, match="cannot be reached") as away:
        Worker(folder, f"http://127.0.0.1:{port}/v1").open()
    assert str(port) not in away.value.reason


def test_an_engine_that_finds_a_version_by_its_name_is_asked_for_it(
    folder: Path, engine: StandInEngine
) -> None:
    """It lists an adapter only once somebody has asked for it."""
    engine.model, engine.finds = "m-3", "m-4"
    served = Worker(folder, engine.address, version=4)
    found = served.open()
    assert (engine.model, found.engine_name) == ("m-4", "remote")
    found.engine.close()


def test_an_engine_with_another_model_is_away(folder: Path, engine: StandInEngine) -> None:
    """A version has a name of its own there, so that none can answer for another."""
    engine.model = "m-3"
    served = Worker(folder, engine.address, version=4)
    with pytest.raises(EngineAway, match=r"it has \['m-3'\]") as away:
        served.open()
    assert away.value.reason == "the engine has no model of the name 'm-4'"


@pytest.mark.parametrize("fault", ["no ids", "no prompt", "texts", "no logprobs", "garbage"])
def test_an_engine_that_cannot_tell_what_is_needed_is_told_before_the_first_request(
    folder: Path, engine: StandInEngine, fault: Fault
) -> None:
    engine.fault = fault
    with pytest.raises(EngineAway):
        Worker(folder, engine.address).open()


@pytest.mark.parametrize(("context", "least"), [(64, 64), (4096, 256), (None, 256)])
def test_the_context_is_the_engines_where_that_is_smaller(
    folder: Path, engine: StandInEngine, context: int | None, least: int
) -> None:
    """A longer request is refused with the true number, before the engine is asked."""
    engine.context = context
    made = Worker(folder, engine.address)
    answerer = made.open()
    engine.asked.clear()

    [refused] = made.ask(prompt="x", max_tokens=least)

    assert (refused.code, answerer.context, engine.asked) == ("context_length_exceeded", least, [])
    assert answerer.engine is not None
    answerer.engine.close()


def test_a_version_is_ready_once_the_engine_answers_as_it_did(
    folder: Path, engine: StandInEngine
) -> None:
    rows = [(ids("ab"), ids("ba")), (ids("xyz"), ids("zyx"))]
    answerer = Worker(folder, engine.address, answers=stored(*rows)).open()
    assert answerer.proved.answers == 2
    assert answerer.engine is not None
    answerer.engine.close()


def test_other_weights_keep_a_version_from_being_ready_until_they_are_right(
    folder: Path, engine: StandInEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first difference goes to the log alone; whoever runs the engine can mend it meanwhile."""
    monkeypatch.setattr("retune.serving.worker._FIRST_PAUSE", 0.02)
    answers = stored((ids("ab"), ids("ab")))
    made = Worker(folder, engine.address, answers=answers)
    read, write = os.pipe()
    with open(read, encoding="utf-8") as orders:
        opened: list[Answerer | None] = []
        opening = threading.Thread(
            target=lambda: opened.append(open_answerer(made.load, made.reports, orders))
        )
        opening.start()
        wait_until(made.told, what="the reason")
        [away] = made.told()
        assert isinstance(away, Away)
        assert "stored prompt 1 of 1 is answered otherwise" in away.reason
        assert "ba" not in away.reason

        engine.rule = lambda prompt: [*prompt, END]
        opening.join(GUARD_SECONDS)
    os.close(write)
    [answerer] = opened
    assert answerer is not None and answerer.engine is not None
    assert answerer.proved.answers == 1
    answerer.engine.close()


def test_a_process_that_waits_for_its_engine_ends_with_its_server(folder: Path) -> None:
    """Its orders end, and nothing is waited for any more."""
    with closed_port() as port:
        made = Worker(folder, f"http://127.0.0.1:{port}/v1")
        read, write = os.pipe()
        os.close(write)
        with open(read, encoding="utf-8") as orders:
            assert open_answerer(made.load, made.reports, orders) is None


def test_a_head_is_refused(
    folder: Path, engine: StandInEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other try makes an engine name classes: the model is unfit for it."""
    monkeypatch.setattr("retune.serving.connecting.has_head", lambda _: True)
    made = Worker(folder, engine.address)
    assert open_answerer(made.load, made.reports, io.StringIO()) is None
    [unfit] = made.told()
    assert isinstance(unfit, Unfit) and "without --engine" in unfit.reason
    assert engine.asked == []


def test_no_more_answers_are_asked_for_than_the_batch(
    worker: Worker, engine: StandInEngine
) -> None:
    """Six choices with a batch of 4: two wait until others have ended."""
    engine.fault = "endless"
    worker.answerer.ask(Ask(id="2", prompt="x", max_tokens=200, n=6))
    made = worker.answerer.engine
    assert made is not None
    wait_until(lambda: len(engine.asked) == 4, what="four answers")
    assert made.counts() == (4, 2)
    worker.answerer.cancel("2")
    wait_until(lambda: made.counts() == (0, 0), what="the end of all")
    assert len(engine.asked) == 4


@pytest.mark.slow
@pytest.mark.service
def test_a_version_is_served_as_long_as_its_engine_answers_as_stored(
    bench: Bench, serve: Callable[..., Served]
) -> None:
    """Not there, then proved, then gone for a while: 503 with the reason, and back by itself."""
    version = ModelSource(f"models:/{NAME}@champion", bench.uri).find()
    assert version.answers is not None
    rows = {row.prompt_ids: row.answer for row in version.answers.rows}
    port = free_port()
    server = serve(
        *(f"models:/{NAME}@champion", "--store", str(bench.root)),
        *("--engine", f"http://127.0.0.1:{port}"),
        variables={"RETUNE_ENGINE_KEY": KEY},
    )
    wait_until(lambda: "cannot be reached" in reason_of(server), what="the reason", every=0.2)
    assert server.post("/v1/completions", model=NAME, prompt="ab").status_code == 503

    for _ in range(2):
        with standing_in(port) as engine:
            engine.model, engine.key, engine.stored = f"{NAME}-1", KEY, rows
            server.wait_until_ready()
            told = server.ready()
            assert (told["engine"], told["proved"]["answers"]) == ("remote", len(rows))
            answer = server.post("/v1/completions", model=NAME, prompt="ab", max_tokens=8).json()
            assert answer["choices"][0]["text"] == "ba"
            assert answer["usage"]["prompt_tokens"] == 2
        wait_until(lambda: "cannot be reached" in reason_of(server), what="the reason", every=0.2)
    assert KEY not in server.log.read_text("utf-8")


def reason_of(server: Served) -> str:
    try:
        return str(server.ready().get("reason", ""))
    except httpx.TransportError:
        return ""
