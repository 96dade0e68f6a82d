"""The registry: a version answers like the merged model before an alias points to it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.decoders import ByteLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from retune.data.schemas import CHAT_SCHEMA
from retune.data.tables import write_table
from retune.digests import digest_folder
from retune.errors import ArtifactError, ServiceError
from retune.model_records import BaseRef, MergedRef
from retune.recipe.sections import RegistryConfig
from retune.records import Record, SideRef
from retune.registry.aliases.deciding import roll_back
from retune.registry.ledger.ledger import Ledger
from retune.registry.registering import is_registered, register_model
from retune.registry.stages import RegisterInputs, RegisterSettings
from retune.registry.versions.finding import find_opponent, resolve_version
from retune.registry.versions.proving import ANSWERS_FILE, prove_version
from retune.score_records import (
    Comparison,
    GateDecision,
    Metric,
    ModelScores,
    RegisteredRef,
    ScoreReport,
)
from retune.spine.stage import Workdir, key_parts
from retune.stages import STAGES
from retune.tracking import Mirror, check_tracking, connect, default_artifact_root, default_uri
from tests.serving import copy_tracking_database
from tests.waiting import GUARD_SECONDS, free_port

ROWS = 4
GAIN = Comparison(
    metric="accuracy",
    against="champion",
    difference=0.1,
    low=0.02,
    high=0.2,
    p_value=0.01,
    n=50,
    verdict="better",
)
SCORES = ModelScores.of(
    {
        "labels": ScoreReport(
            digest="labels",
            folder=Path("labels"),
            metrics={
                "accuracy": Metric(value=0.82, low=0.69, high=0.9, n=50),
                "perplexity": Metric(value=3.1, low=2.9, high=3.4, n=50),
            },
            rows=50,
            unscored={},
        )
    }
)


def write_model(folder: Path, seed: int) -> Path:
    """Write a random Llama of 30,000 parameters with one token per byte and an end token."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: index for index, letter in enumerate([*letters, "<end>"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>")
    fast.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        eos_token_id=vocabulary["<end>"],
        initializer_range=0.5,  # wide enough for answers that differ from row to row
    )
    torch.manual_seed(seed)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


class Bench:
    """A store with MLflow, rows, and models by seed."""

    def __init__(self, root: Path, uri: str | None = None) -> None:
        self.root = root
        if uri is None:
            copy_tracking_database(root)
        self.uri = uri or default_uri(root)
        self.ledgers = root / "ledger"
        self.rows = self._write_rows(root / "rows")
        self.scratch = 0

    def _write_rows(self, folder: Path) -> SideRef:
        folder.mkdir()
        prompts = [f"Quantos clientes em {city}?" for city in ("Faro", "Porto", "Braga", "Évora")]
        rows = [
            {
                "row_id": str(index),
                "prompt": prompt,
                "prompt_ids": list(prompt.encode("ascii", "ignore")),
                "answer": "SELECT 1",
                "answer_ids": [1] * 12,
            }
            for index, prompt in enumerate(prompts)
        ]
        write_table(folder / "rows.parquet", rows, pa.schema(CHAT_SCHEMA))
        return SideRef(digest=digest_folder(folder), folder=folder)

    def merged(self, seed: int) -> MergedRef:
        folder = self.root / f"merged-{seed}"
        if not folder.is_dir():
            write_model(folder, seed)
        figures: dict[str, Any] = {"rows_checked": 1, "answers_equal": 1}
        figures |= {"max_logit_difference": 0.0, "logit_spread": 1.0}
        return MergedRef(digest=digest_folder(folder), folder=folder, **figures)

    def context(self, name: str) -> dict[str, str]:
        root = default_artifact_root(self.root)
        mirror = Mirror(self.uri, name, artifact_root=root, store_root=self.root)
        run_id = mirror.open_parent("flow", {})
        return {
            "tracking_uri": self.uri,
            "artifact_root": root,
            "experiment": name,
            "run_id": run_id,
            "ledgers": str(self.ledgers),
        }

    def register(self, name: str, seed: int, *, promote: bool = True) -> RegisteredRef:
        return self.register_inputs(name, self.inputs(name, seed, promote=promote))

    def inputs(self, name: str, seed: int, *, promote: bool = True) -> RegisterInputs:
        """Decide against the champion of this moment."""
        merged = self.merged(seed)
        return RegisterInputs(
            merged=merged,
            decision=GateDecision(
                digest=f"decision-{promote}",
                promote=promote,
                reasons=("because",),
                comparisons=(GAIN,),
                metric="accuracy",
                alpha=0.01,
            ),
            scores=SCORES,
            champion=find_opponent(self.uri, name, merged.digest),
            rows=self.rows,
            base=BaseRef(
                digest="base",
                folder=merged.folder,
                model_id="tiny",
                revision=None,
                tokenizer_digest="tokenizer",
            ),
        )

    def register_inputs(
        self,
        name: str,
        inputs: RegisterInputs,
        approval: Literal["none", "required"] = "none",
        user: str | None = None,
    ) -> RegisteredRef:
        registry = RegistryConfig(model_name=name, check_rows=ROWS, approval=approval)
        section = RegisterSettings(registry=registry, user=user)
        self.scratch += 1
        work = self.root / f"work-{self.scratch}"
        for folder in ("artifact", "scratch"):
            (work / folder).mkdir(parents=True)
        folders = (work / "artifact", work / "scratch")
        return register_model(inputs, section, Workdir(*folders, context=self.context(name)))

    def opponent(self, name: str, seed: int) -> int | None:
        found = find_opponent(self.uri, name, self.merged(seed).digest)
        return None if found is None else found.version


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("store"))


def test_a_promoted_model_is_champion_and_answers_as_before(bench: Bench, name: str) -> None:
    record = bench.register(name, 1)

    assert (record.version, record.alias) == (1, "champion")
    assert (record.rows_checked, record.answers_equal) == (ROWS, ROWS)
    version = connect(bench.uri).get_model_version_by_alias(name, "champion")
    assert version.tags["retune.merged_digest"] == bench.merged(1).digest
    assert version.tags["retune.compared_with"] == ""
    assert version.tags["retune.reasons"] == "because"


def test_a_version_reloaded_by_alias_has_the_merged_models_weights(bench: Bench, name: str) -> None:
    import mlflow

    bench.register(name, 1)

    parts = mlflow.transformers.load_model(f"models:/{name}@champion", return_type="components")
    merged = LlamaForCausalLM.from_pretrained(bench.merged(1).folder, dtype="auto")

    reloaded = parts["model"].state_dict()
    assert {tensor.dtype for tensor in reloaded.values()} == {torch.bfloat16}
    assert all(torch.equal(reloaded[key], tensor) for key, tensor in merged.state_dict().items())


def test_registering_the_same_model_again_makes_no_second_version(bench: Bench, name: str) -> None:
    first = bench.register(name, 1)

    assert bench.register(name, 1) == first
    assert len(connect(bench.uri).search_model_versions(f"name = '{name}'")) == 1


def test_a_version_keeps_the_wording_and_one_without_it_gets_it(bench: Bench, name: str) -> None:
    """What it answered stays as it is: the version was registered on another machine, say."""
    inputs = bench.inputs(name, 1)
    bench.register_inputs(name, inputs)
    path = resolve_version(bench.uri, name, 1)[1] / ANSWERS_FILE
    before = json.loads(path.read_text())
    path.write_text(json.dumps(before | {"made_on": "elsewhere"}))
    bench.register_inputs(name, inputs, user="{schema}\n{question}")

    assert "user" not in before
    assert json.loads(path.read_text()) == before | {
        **{"made_on": "elsewhere", "user": "{schema}\n{question}"}
    }


def test_a_recipe_without_a_wording_keeps_its_key() -> None:
    """The versions that it registered stay reused; one with a wording registers once more."""
    registry = RegistryConfig(model_name="m")
    plain, worded = (
        RegisterSettings(registry=registry, user=user) for user in (None, "{question}")
    )

    parts = key_parts(STAGES["register_model"], Record(), plain)
    assert not [part for part in parts if part.startswith("prompt.user")]
    assert key_parts(STAGES["register_model"], Record(), worded) == parts | {
        "prompt.user": "{question}"
    }


def test_a_registration_is_one_line_of_the_ledger_with_what_it_rests_on(
    bench: Bench, name: str
) -> None:
    bench.register(name, 1)
    inputs = bench.inputs(name, 2)
    record = bench.register_inputs(name, inputs)
    assert bench.register_inputs(name, inputs) == record

    [_, line] = Ledger(bench.uri, name, bench.ledgers).entries()
    assert (record.line, record.held_back) == (line.number, "")
    assert (line.kind, line.actor, line.from_version, line.to_version) == ("promoted", "gate", 1, 2)
    assert (line.challenger, line.opponent) == (bench.merged(2).digest, bench.merged(1).digest)
    assert (line.decision, line.test_rows) == (inputs.decision.digest, bench.rows.digest)
    # The deciding figure alone has an interval: 41 of 50 rows, and 0.1 more than the champion.
    assert line.alpha == 0.01
    assert line.figures == {
        "accuracy": 0.82,
        "accuracy.low": 0.69,
        "accuracy.high": 0.9,
        "accuracy.against_champion": 0.1,
    }


def test_a_decision_on_cases_of_probes_is_written_down_as_resting_on_these(
    bench: Bench, name: str
) -> None:
    """The held-out rows are what it is proved on, and not what it wears out."""
    bench.register_inputs(name, bench.inputs(name, 1).model_copy(update={"test_set": "probes"}))
    [line] = Ledger(bench.uri, name, bench.ledgers).entries()
    assert line.test_rows == "probes"


def test_where_a_person_has_to_agree_nothing_but_the_challenger_is_set(
    bench: Bench, name: str
) -> None:
    bench.register(name, 1)
    record = bench.register_inputs(name, bench.inputs(name, 2), approval="required")

    assert (record.alias, record.held_back) == ("challenger", "it waits for a person to approve it")
    aliases = connect(bench.uri).get_registered_model(name).aliases
    assert {alias: int(number) for alias, number in aliases.items()} == {
        "champion": 1,
        "challenger": 2,
    }


def test_a_champion_that_was_withdrawn_stands_no_more_and_stays_withdrawn(
    bench: Bench, name: str
) -> None:
    bench.register(name, 1)
    inputs = bench.inputs(name, 2)
    record = bench.register_inputs(name, inputs)
    withdraw = {"taken_back": 2, "to": 1, "actor": "ada", "reason": "it is rude"}
    roll_back(bench.uri, name, folder=bench.ledgers, **withdraw)

    context = {"tracking_uri": bench.uri}
    assert is_registered(record, context) == "registered version 2 was withdrawn"
    again = bench.register_inputs(name, inputs)

    assert again.alias == "challenger" and "it is rude" in again.held_back
    assert is_registered(again, context) is None
    assert bench.opponent(name, 3) == 1


def test_a_model_that_is_not_promoted_is_challenger(bench: Bench, name: str) -> None:
    champion = bench.register(name, 1)
    challenger = bench.register(name, 2, promote=False)

    client = connect(bench.uri)
    assert challenger.alias == "challenger"
    assert int(client.get_model_version_by_alias(name, "champion").version) == champion.version
    assert int(client.get_model_version_by_alias(name, "challenger").version) == challenger.version
    tags = client.get_model_version(name, str(challenger.version)).tags
    assert tags["retune.compared_with"] == bench.merged(1).digest


def test_a_challenger_that_is_promoted_is_no_longer_challenger(bench: Bench, name: str) -> None:
    bench.register(name, 1)
    bench.register(name, 2, promote=False)

    assert bench.register(name, 2).alias == "champion"

    aliases = connect(bench.uri).get_registered_model(name).aliases
    found = {alias: int(version) for alias, version in aliases.items()}
    assert found == {"champion": 2, "previous": 1}


def test_a_version_that_answers_otherwise_gets_no_alias(
    bench: Bench, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = bench.register(name, 1)
    import retune.registry.registering as registering
    from retune.registry.versions.saving import reload_version

    def reload_broken(uri: str, model_name: str, version: int, release: Path) -> Any:
        loaded = reload_version(uri, model_name, version, release)
        with torch.no_grad():
            loaded.model.lm_head.weight.copy_(loaded.model.lm_head.weight.flip(0))
        return loaded

    monkeypatch.setattr(registering, "reload_version", reload_broken)

    with pytest.raises(ArtifactError, match="No alias was moved"):
        bench.register(name, 2)

    aliases = connect(bench.uri).get_registered_model(name).aliases
    assert {alias: int(version) for alias, version in aliases.items()} == {
        "champion": champion.version
    }


def test_a_standing_version_stands(bench: Bench, name: str) -> None:
    record = bench.register(name, 1)

    assert is_registered(record, {"tracking_uri": bench.uri}) is None


def test_a_champion_that_a_later_one_replaced_still_stands(bench: Bench, name: str) -> None:
    record = bench.register(name, 1)
    bench.register(name, 2)

    assert is_registered(record, {"tracking_uri": bench.uri}) is None


def test_a_deleted_version_is_gone_and_is_registered_anew(bench: Bench, name: str) -> None:
    record = bench.register(name, 1)
    connect(bench.uri).delete_model_version(name, str(record.version))

    gone = is_registered(record, {"tracking_uri": bench.uri})

    assert gone == f"registered version {record.version} is gone"
    assert bench.register(name, 1).version == record.version + 1


def test_a_deleted_model_is_gone(bench: Bench, name: str) -> None:
    record = bench.register(name, 1)
    connect(bench.uri).delete_registered_model(name)

    assert is_registered(record, {"tracking_uri": bench.uri}) == "registered version 1 is gone"


def test_another_model_under_the_same_number_is_seen(bench: Bench, name: str) -> None:
    record = bench.register(name, 1)
    connect(bench.uri).delete_registered_model(name)
    bench.register(name, 2)

    gone = is_registered(record, {"tracking_uri": bench.uri})

    assert gone == "registered version 1 holds another model"


def test_a_deleted_alias_is_seen(bench: Bench, name: str) -> None:
    record = bench.register(name, 1)
    connect(bench.uri).delete_registered_model_alias(name, "champion")

    assert is_registered(record, {"tracking_uri": bench.uri}) == "alias champion is gone"


def test_deleted_files_are_seen_and_registered_anew(bench: Bench, name: str) -> None:
    record = bench.register(name, 1)
    champion = find_opponent(bench.uri, name, "another")
    assert champion is not None
    shutil.rmtree(champion.weights)

    gone = is_registered(record, {"tracking_uri": bench.uri})

    assert gone == "files of registered version 1 are gone"
    with pytest.raises(ArtifactError, match="its files are gone"):
        find_opponent(bench.uri, name, "another")
    assert bench.register(name, 1).version == 2


def test_without_a_champion_there_is_no_opponent(bench: Bench, name: str) -> None:
    assert bench.opponent(name, 1) is None

    bench.register(name, 1, promote=False)

    assert bench.opponent(name, 2) is None


def test_the_champion_is_the_opponent_of_another_model(bench: Bench, name: str) -> None:
    bench.register(name, 1)

    assert bench.opponent(name, 2) == 1


def test_the_champion_itself_meets_the_one_it_replaced(bench: Bench, name: str) -> None:
    bench.register(name, 1)
    assert bench.opponent(name, 1) is None
    bench.register(name, 2)

    assert bench.opponent(name, 2) == 1
    # Repeating the whole run changes nothing of that.
    bench.register(name, 2)
    assert bench.opponent(name, 2) == 1


def test_a_decision_against_a_champion_that_was_replaced_moves_no_alias(
    bench: Bench, name: str
) -> None:
    bench.register(name, 1)
    stale = bench.inputs(name, 3)  # decided against version 1 ...
    bench.register(name, 2)  # ... while another run promotes version 2

    with pytest.raises(ArtifactError, match="another run changed the champion"):
        bench.register_inputs(name, stale)
    champion = find_opponent(bench.uri, name, "another")
    assert champion is not None and champion.version == 2


def test_a_champion_of_another_tool_is_replaced_by_what_beats_it(bench: Bench, name: str) -> None:
    """Logged with MLflow alone, it has no digest of retune's; a repeated run meets it again."""
    bench.register(name, 1)
    client = connect(bench.uri)
    client.delete_model_version_tag(name, "1", "retune.merged_digest")
    assert bench.opponent(name, 2) == 1

    assert bench.register(name, 2).alias == "champion"
    assert bench.opponent(name, 2) == 1


def test_the_opponent_is_scored_in_place_like_the_merged_model(bench: Bench, name: str) -> None:
    from retune.inference.loaded_models import load_scored_model

    bench.register(name, 1)
    champion = find_opponent(bench.uri, name, "another")
    assert champion is not None

    assert champion.digest == bench.merged(1).digest
    assert champion.weights.is_relative_to(bench.root / "mlflow" / "artifacts")
    merged = load_scored_model(bench.merged(1).as_scored())
    assert load_scored_model(champion.as_scored()).end_ids == merged.end_ids


def test_the_saved_model_answers_a_request_with_parameters(bench: Bench, name: str) -> None:
    import mlflow

    bench.register(name, 1)
    served = mlflow.pyfunc.load_model(f"models:/{name}@champion")

    short, long = (
        served.predict(["Quantos clientes em Faro?"], params={"max_new_tokens": tokens})[0]
        for tokens in (2, 12)
    )

    assert long.startswith(short)
    assert len(short) < len(long)
    assert not long.startswith("Quantos")


@pytest.fixture
def server_bench(tmp_path: Path) -> Iterator[Bench]:
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path}/server.db"]
    command += ["--artifacts-destination", str(tmp_path / "served")]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with open(tmp_path / "server.log", "wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        yield Bench(tmp_path, wait_for_server(f"http://127.0.0.1:{port}"))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for_server(uri: str) -> str:
    deadline = time.monotonic() + GUARD_SECONDS
    while True:
        try:
            check_tracking(uri)
        except ServiceError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return uri


@pytest.mark.slow
@pytest.mark.service
def test_a_version_of_a_server_is_sent_reloaded_and_downloaded_once(
    server_bench: Bench, name: str
) -> None:
    bench = server_bench
    record = bench.register(name, 1)
    cache = bench.root / "cache"

    champion = find_opponent(bench.uri, name, "another", cache_folder=cache)

    assert champion is not None
    assert champion.weights.is_relative_to(cache)
    downloaded = champion.weights / "model.safetensors"
    written = downloaded.stat().st_mtime_ns
    assert find_opponent(bench.uri, name, "another", cache_folder=cache) == champion
    assert downloaded.stat().st_mtime_ns == written
    assert prove_version(bench.uri, name, record.version, cache_folder=cache) == ROWS
    assert is_registered(record, {"tracking_uri": bench.uri}) is None
    # Nothing of it lies in the store of this machine.
    assert not (bench.root / "mlflow" / "artifacts").exists()


def test_a_server_that_is_gone_is_a_service_error(bench: Bench, name: str) -> None:
    record = bench.register(name, 1)

    with pytest.raises(ServiceError):
        is_registered(record, {"tracking_uri": "http://127.0.0.1:1"})
    with pytest.raises(ServiceError):
        find_opponent("http://127.0.0.1:1", name, "another")
