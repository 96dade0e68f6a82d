"""The server over a registered version: what clients of the OpenAI API get from it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from transformers import AutoTokenizer

from retune.registry.versions.finding import resolve_version
from retune.registry.versions.proving import ANSWERS_FILE, read_answers
from retune.retraining.request_log import read_request
from tests.retune.registry.test_registering import ROWS, Bench
from tests.retune.serving.conftest import NAME, Served
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.service]

KEY = "sk-of-a-test"
ASKED = [{"role": "user", "content": "Quantos clientes em Faro?"}]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that the server keeps requests in."""
    return tmp_path_factory.mktemp("requests")


@pytest.fixture(scope="module")
def served(
    bench: Bench,
    serve: Callable[..., Served],
    tmp_path_factory: pytest.TempPathFactory,
    kept: Path,
) -> Served:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"# who may ask\ntests:{hashlib.sha256(KEY.encode()).hexdigest()}\n")
    found = serve(
        *(f"models:/{NAME}@champion", "--store", str(bench.root), "--keys", str(keys)),
        *("--batch", "8", "--body-bytes", "20000", "--most-tokens", "128"),
        *("--log-requests", str(kept)),
        key=KEY,
    )
    found.wait_until_ready()
    return found


@pytest.fixture(scope="module")
def client(served: Served) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.address}/v1", api_key=KEY, max_retries=0)


def chat(client: openai.OpenAI, **options: Any) -> Any:
    return client.chat.completions.create(**{"model": NAME, "messages": ASKED} | options)


def test_it_is_ready_once_it_has_proved_what_the_version_stores(served: Served) -> None:
    ready = served.ready()

    assert (ready["status"], ready["version"], ready["engine"]) == ("ready", 1, "paged")
    # Four shapes of chats: with and without a system message, one turn and several.
    assert ready["proved"] == {"chats": 4, "answers": ROWS}


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [NAME]
    assert client.models.retrieve(NAME).owned_by == "retune"


def test_a_stored_prompt_is_answered_as_the_registry_has_it(
    bench: Bench, client: openai.OpenAI
) -> None:
    """Greedy unless a temperature is given: token for token what was scored."""
    _, folder = resolve_version(bench.uri, NAME, "champion")
    stored = read_answers(folder / ANSWERS_FILE, NAME)
    tokenizer = AutoTokenizer.from_pretrained(folder / "components" / "tokenizer")

    for row in stored.rows:
        found = client.completions.create(
            model=NAME, prompt=list(row.prompt_ids), max_tokens=len(row.answer), logprobs=0
        )
        [choice] = found.choices
        assert choice.logprobs is not None
        assert choice.logprobs.tokens == [tokenizer.decode([token]) for token in row.answer]
        assert choice.text == tokenizer.decode(list(row.answer))
        assert found.usage is not None
        assert found.usage.prompt_tokens == len(row.prompt_ids)
        assert found.usage.completion_tokens == len(row.answer)


def test_answers_do_not_depend_on_what_else_is_in_the_batch(served: Served) -> None:
    """64 requests at once, of 16 prompts, against one by one; half of them draw with a seed."""

    def ask(number: int) -> str:
        body = {"model": NAME, "prompt": f"question {number % 16 * 7}", "max_tokens": 12}
        body |= {"temperature": 1.3, "seed": 5, "top_p": 0.9} if number % 2 else {}
        answer = served.post("/v1/completions", **body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["choices"][0]["text"])

    alone = [ask(number) for number in range(16)]
    with ThreadPoolExecutor(64) as pool:
        together = list(pool.map(ask, range(64)))

    assert together == alone * 4
    assert len(set(alone)) > 8


def test_a_stream_adds_up_to_the_answer_and_ends_with_its_usage(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {"max_tokens": 40, "n": 2, "seed": 3, "temperature": 0.9}
    whole = chat(client, **options)
    texts = {0: "", 1: ""}
    usage = None
    for chunk in chat(client, stream=True, stream_options={"include_usage": True}, **options):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
        usage = chunk.usage or usage

    assert [texts[0], texts[1]] == [each.message.content for each in whole.choices]
    assert texts[0] != texts[1]
    assert usage == whole.usage


def test_a_stop_string_ends_an_answer_before_it(client: openai.OpenAI) -> None:
    whole = chat(client, max_tokens=60).choices[0].message.content
    stop = whole[10:13]
    expected = whole[: whole.index(stop)]

    found = chat(client, max_tokens=60, stop=["not in any answer", stop])
    streamed = "".join(
        each.choices[0].delta.content or ""
        for each in chat(client, max_tokens=60, stop=stop, stream=True)
    )

    assert found.choices[0].message.content == expected
    assert found.choices[0].finish_reason == "stop"
    assert streamed == expected


def test_max_tokens_ends_an_answer_and_says_so(client: openai.OpenAI) -> None:
    found = chat(client, max_completion_tokens=5)

    assert found.choices[0].finish_reason == "length"
    assert found.usage.completion_tokens == 5


def test_log_probabilities_are_those_of_the_model(client: openai.OpenAI) -> None:
    """Of a greedy answer each token is the likeliest, and what is told adds up to 1 at most."""
    found = chat(client, max_tokens=4, logprobs=True, top_logprobs=20)

    told = found.choices[0].logprobs.content
    assert len(told) == 4
    for token in told:
        assert token.logprob == token.top_logprobs[0].logprob
        assert 0.5 < sum(math.exp(each.logprob) for each in token.top_logprobs) <= 1 + 1e-6


def test_the_same_seed_draws_the_same_and_another_draws_otherwise(client: openai.OpenAI) -> None:
    def draw(seed: int) -> str:
        found = chat(client, temperature=1.5, seed=seed, max_tokens=20)
        return str(found.choices[0].message.content)

    assert draw(1) == draw(1) != draw(2)


def test_top_p_of_almost_nothing_is_greedy(client: openai.OpenAI) -> None:
    greedy = chat(client, max_tokens=20).choices[0].message.content

    drawn = chat(client, max_tokens=20, temperature=2, top_p=1e-9).choices[0].message.content
    assert drawn == greedy


def test_generate_answers_a_question_as_chat_does(served: Served, client: openai.OpenAI) -> None:
    found = served.post("/generate", prompt=ASKED[0]["content"], max_tokens=12).json()

    assert found["text"] == chat(client, max_tokens=12).choices[0].message.content
    assert (found["version"], found["finish_reason"]) == (1, "length")


BAD: dict[str, tuple[dict[str, Any], int, str]] = {
    "another model": ({"model": "gpt-4"}, 404, "model_not_found"),
    "no messages": ({"messages": []}, 400, "invalid_value"),
    "a wrong role": ({"messages": [{"role": "wizard", "content": "x"}]}, 400, "invalid_value"),
    "nothing asked": (
        {"messages": [{"role": "assistant", "content": "x"}]},
        400,
        "invalid_value",
    ),
    "an image": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        400,
        "invalid_value",
    ),
    "a NUL": ({"messages": [{"role": "user", "content": "a\x00b"}]}, 400, "invalid_value"),
    "10,000 stops": ({"stop": ["x"] * 4000}, 400, "invalid_value"),
    "a long prompt": (
        {"messages": [{"role": "user", "content": "x" * 300}]},
        400,
        "context_length_exceeded",
    ),
    "a long answer": ({"max_tokens": 129}, 400, "invalid_value"),
    "a long answer by its other name": ({"max_completion_tokens": 129}, 400, "invalid_value"),
    "a seed of nothing drawn": ({"seed": 1}, 400, "invalid_value"),
    "a top_p of nothing drawn": ({"top_p": 0.5}, 400, "invalid_value"),
    "a text for a number": ({"max_tokens": "5"}, 400, "invalid_value"),
    "a temperature": ({"temperature": 2.5}, 400, "invalid_value"),
    "tools": ({"tools": []}, 400, "unsupported_parameter"),
    "a penalty": ({"frequency_penalty": 0.5}, 400, "invalid_value"),
    "effort": ({"reasoning_effort": "high"}, 400, "unsupported_value"),
    "JSON mode": ({"response_format": {"type": "json_object"}}, 400, "invalid_value"),
    "top_logprobs alone": ({"top_logprobs": 2}, 400, "invalid_value"),
    "a long body": ({"user": "x" * 20_001}, 413, "body_too_large"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_honoured_is_refused_by_name(served: Served, what: str) -> None:
    body, status, code = BAD[what]

    answer = served.post("/v1/chat/completions", **{"model": NAME, "messages": ASKED} | body)

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code), error
    assert set(error) == {"message", "type", "param", "code"}
    [field] = body
    assert status == 413 or field in f"{error['param']} {error['message']}"


def test_what_is_no_request_at_all_is_answered_in_the_same_form(served: Served) -> None:
    url = f"{served.address}/v1/chat/completions"

    def code(answer: httpx.Response) -> tuple[int, str]:
        return answer.status_code, answer.json()["error"]["code"]

    headers = {**served.headers, "Content-Type": "application/json; charset=utf-8"}
    broken = httpx.post(url, content=b'{"model": ', headers=headers)
    surrogate = httpx.post(url, content=b'{"model": "\\ud800"}', headers=headers)
    plain = httpx.post(url, content=b"{}", headers={**headers, "Content-Type": "text/plain"})
    assert code(plain) == (415, "unsupported_media_type")
    assert code(broken) == (400, "invalid_json")
    assert surrogate.status_code == 400
    assert code(httpx.get(url, headers=served.headers)) == (405, "method_not_allowed")
    assert code(httpx.get(f"{served.address}/nowhere", headers=served.headers)) == (
        404,
        "unknown_url",
    )


@pytest.mark.parametrize("sent", [{}, {"Authorization": "Bearer sk-of-a-tesu"}])
def test_without_its_key_nobody_is_answered(served: Served, sent: dict[str, str]) -> None:
    answer = httpx.get(f"{served.address}/v1/models", headers=sent)

    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "authentication_error"
    assert served.get("/healthz").status_code == 200


def test_a_model_that_writes_names_no_classes(served: Served) -> None:
    answer = served.post("/classify", text="x")

    assert answer.status_code == 400
    assert "has no head" in answer.json()["error"]["message"]


def test_nothing_that_was_asked_stands_in_the_log(served: Served) -> None:
    answer = served.post("/generate", prompt="a secret word: xyzzy", max_tokens=2)

    # A call is counted and told once its answer has left, which a client may read before.
    wait_until(
        lambda: answer.headers["x-request-id"] in served.log.read_text(), what="the call's line"
    )
    log = served.log.read_text()
    assert "xyzzy" not in log
    assert KEY not in log


def test_what_was_asked_is_kept_without_personal_data_and_can_be_corrected(
    served: Served, client: openai.OpenAI, kept: Path
) -> None:
    """A line is what the trigger `drift` reads; a corrected answer is a row with its group."""
    asked = [{"role": "user", "content": "Quem é maria@banco.com.br?"}]
    answer = chat(client, messages=asked, max_tokens=3)
    judged = served.post("/v1/feedback", id=answer.id, rating="bad", correction="SELECT 1")
    assert judged.status_code == 200, judged.text

    [request] = [
        each
        for each in map(json.loads, (kept / "requests-00000001.jsonl").read_text().splitlines())
        if each["id"] == answer.id.removeprefix("chatcmpl-")
    ]
    line = json.dumps(request).encode()
    assert read_request(line, "prompt", None).messages == [
        {"role": "user", "content": "Quem é [e-mail]?"}
    ]
    assert request["messages"][-1]["content"] == answer.choices[0].message.content
    assert json.loads((kept / "corrections.jsonl").read_text()) == {
        "id": f"{request['id']}-1",
        "messages": [
            {"role": "user", "content": "Quem é [e-mail]?"},
            {"role": "assistant", "content": "SELECT 1"},
        ],
        "group": request["id"],
    }
    unknown = served.post("/v1/feedback", id="0" * 32, rating="good")
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (404, "id")


def test_counters_know_status_tokens_and_version(served: Served) -> None:
    served.post("/generate", prompt="x", max_tokens=2)
    wait_until(
        lambda: 'requests_total{route="/generate",status="200"}' in served.get("/metrics").text,
        what="the count, which is taken once the answer has left",
    )
    text = served.get("/metrics").text

    assert "retune_serving_version 1.0" in text
    assert "retune_serving_ready 1.0" in text
    assert 'retune_serving_tokens_total{kind="written"}' in text
    assert "retune_serving_first_token_seconds_count" in text


def test_a_killed_process_is_started_again_and_the_others_are_told(served: Served) -> None:
    """Who waited gets 503 with Retry-After, as everybody does until it is ready again."""
    [worker] = served.workers()
    worker.suspend()  # so that the request is surely not answered yet
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(served.post, "/generate", prompt="x", max_tokens=2)
        wait_until(
            lambda: "retune_serving_in_flight 1.0" in served.get("/metrics").text,
            what="the request",
        )
        worker.kill()
        lost = waiting.result()

    assert lost.status_code == 503
    assert lost.json()["error"]["code"] == "worker_died"
    assert int(lost.headers["retry-after"]) > 0
    meanwhile = served.post("/generate", prompt="x", max_tokens=2)
    assert (meanwhile.status_code, meanwhile.json()["error"]["code"]) == (503, "not_ready")
    assert "retry-after" in meanwhile.headers
    served.wait_until_ready()
    assert served.post("/generate", prompt="x", max_tokens=2).status_code == 200


def test_its_openapi_document_describes_the_bodies(served: Served) -> None:
    document = httpx.get(f"{served.address}/openapi.json", headers=served.headers).json()

    body = document["paths"]["/v1/chat/completions"]["post"]["requestBody"]
    fields = body["content"]["application/json"]["schema"]["properties"]
    assert {"messages", "stop", "seed", "logprobs"} <= set(fields)
    assert json.dumps(document)


def test_strangers_without_a_key_are_not_let_in(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    refused = serve(str(tmp_path), "--host", "0.0.0.0")

    assert refused.process.wait(120) == 2
    assert "there is no API key" in " ".join(refused.log.read_text().split())
