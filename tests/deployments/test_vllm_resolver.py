"""The plug-in by which vLLM finds adapters: MLflow is real, vLLM's interface is stood in for."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.tracking._model_registry import utils as registry_addresses
from mlflow.tracking._tracking_service import utils as tracking_addresses

from retune.tracking.addresses import default_uri
from tests.serving import copy_tracking_database
from tests.tiny_models import REPOSITORY

FOLDER = REPOSITORY / "deployments" / "vllm_resolver"
BASE = "org/base"


@dataclass
class LoRARequest:
    """As `vllm.lora.request` has it, as far as a resolver fills it."""

    lora_name: str
    lora_int_id: int
    lora_path: str


class Registry:
    """As `vllm.lora.resolver` has it: resolvers by name."""

    def __init__(self) -> None:
        self.resolvers: dict[str, Any] = {}

    def register_resolver(self, name: str, resolver: Any) -> None:
        self.resolvers[name] = resolver


class Bench:
    """A registry of one model, whose versions' runs hold adapters, and the plug-in over it."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        copy_tracking_database(root)
        self.root, self.monkeypatch = root, monkeypatch
        uri = default_uri(root)
        for name, value in (
            ("MLFLOW_TRACKING_URI", uri),
            ("RETUNE_RESOLVER_CACHE", str(root / "cache")),
        ):
            monkeypatch.setenv(name, value)
        # In vLLM's process nobody has set an address but by these variables; here others may have.
        monkeypatch.setattr(tracking_addresses, "_tracking_uri", None)
        monkeypatch.setattr(registry_addresses, "_registry_uri", None)
        self.client = MlflowClient(uri)
        self.experiment = self.client.create_experiment("e", artifact_location=str(root / "runs"))
        self.client.create_registered_model("text-to-sql")
        self.registry = Registry()

    def register(self, rank: int | None, **changed: Any) -> int:
        """Register a version; without a rank its run has no adapter."""
        run = self.client.create_run(self.experiment).info.run_id
        if rank is not None:
            folder = self.root / f"made-{run}"
            folder.mkdir()
            config = {"peft_type": "LORA", "r": rank, "base_model_name_or_path": BASE} | changed
            (folder / "adapter_config.json").write_text(json.dumps(config))
            (folder / "adapter_model.safetensors").write_bytes(b"weights")
            self.client.log_artifacts(run, str(folder), "adapter")
        made = self.client.create_model_version("text-to-sql", str(self.root), run)
        return int(made.version)

    def load(self) -> Any:
        """Import the plug-in as vLLM does, and let it register itself; return its resolver."""
        request, resolver = ModuleType("vllm.lora.request"), ModuleType("vllm.lora.resolver")
        request.LoRARequest = LoRARequest  # type: ignore[attr-defined]
        resolver.LoRAResolver = object  # type: ignore[attr-defined]
        resolver.LoRAResolverRegistry = self.registry  # type: ignore[attr-defined]
        parts = {"vllm": ModuleType("vllm"), "vllm.lora": ModuleType("vllm.lora")}
        for each in (*parts.values(), request, resolver):
            self.monkeypatch.setitem(sys.modules, each.__name__, each)
        entry = tomllib.loads((FOLDER / "pyproject.toml").read_text("utf-8"))["project"]
        [(_, named)] = entry["entry-points"]["vllm.general_plugins"].items()
        module, _, function = named.partition(":")
        spec = importlib.util.spec_from_file_location(module, FOLDER / f"{module}.py")
        assert spec is not None and spec.loader is not None
        made = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(made)
        getattr(made, function)()
        return self.registry.resolvers["retune"]

    def rank(self, name: str, base: str = BASE) -> int | None:
        """Return the rank of the adapter that a name stands for; None for none."""
        found = asyncio.run(self.load().resolve_lora(base, name))
        if found is None:
            return None
        assert found.lora_name == name
        return int(json.loads((Path(found.lora_path) / "adapter_config.json").read_text())["r"])


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def test_a_name_stands_for_the_adapter_of_a_version(bench: Bench) -> None:
    """Version 1 has rank 4, version 2 rank 8 and is champion; each in a folder of its own."""
    assert (bench.register(4), bench.register(8)) == (1, 2)
    bench.client.set_registered_model_alias("text-to-sql", "champion", "2")
    names = ("text-to-sql-1", "text-to-sql/2", "text-to-sql@champion", "text-to-sql-1")
    assert [bench.rank(name) for name in names] == [4, 8, 8, 4]
    # Once each, and nothing half done beside them.
    assert len(list((bench.root / "cache").iterdir())) == 2


@pytest.mark.parametrize(
    "name", ["text-to-sql", "text-to-sql-9", "text-to-sql@nobody", "other/1", "../x-1", "-1"]
)
def test_a_name_of_no_version_is_no_adapter(bench: Bench, name: str) -> None:
    """Then vLLM answers 404, and asks the next resolver before."""
    bench.register(4)
    assert bench.rank(name) is None


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"peft_type": "PREFIX_TUNING"}, "is PREFIX_TUNING over org/base"),
        ({"base_model_name_or_path": "org/other"}, "is LORA over org/other, and LoRA over org/b"),
    ],
)
def test_an_adapter_that_would_answer_wrongly_is_kept_from_vllm(
    bench: Bench, caplog: pytest.LogCaptureFixture, changed: dict[str, str], told: str
) -> None:
    """Of another base, or of another kind: vLLM's log says which."""
    bench.register(4, **changed)
    assert bench.rank("text-to-sql-1") is None
    assert told in caplog.text


def test_a_base_may_have_further_names(bench: Bench) -> None:
    """A folder was given to vLLM, and the adapter has the hub's id; or the version's tag has it."""
    bench.register(4)
    assert bench.rank("text-to-sql-1", base="/models/base") is None
    bench.monkeypatch.setenv("RETUNE_RESOLVER_BASES", "other, org/base")
    assert bench.rank("text-to-sql-1", base="/models/base") == 4
    bench.register(8, base_model_name_or_path=None)
    bench.client.set_model_version_tag("text-to-sql", "2", "retune.base_model", BASE)
    assert bench.rank("text-to-sql-2") == 8


def test_a_version_without_an_adapter_is_told(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """One that was trained as a whole."""
    bench.register(None)
    assert bench.rank("text-to-sql-1") is None
    assert "version 1 of text-to-sql has no adapter in MLflow" in caplog.text


def test_a_registry_that_cannot_be_asked_is_an_unknown_name(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """And no error of vLLM's, which other resolvers may still answer."""
    bench.monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://registry")
    assert bench.rank("text-to-sql-1") is None
    assert "MLflow gives no adapter" in caplog.text
