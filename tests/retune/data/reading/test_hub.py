"""Datasets of the hub: resolved once, read at that commit, and refused with a clear reason."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import httpx
import huggingface_hub
import pytest
from datasets.exceptions import DatasetNotFoundError
from huggingface_hub import errors

from retune.data.rows import load_rows
from retune.data.sources import LocatedRows, locate_rows
from retune.data.tables import read_rows
from retune.errors import ConfigError, DataError
from retune.recipe.sections.data import DataConfig
from retune.records import HubDataset
from retune.spine.stage import Workdir
from tests.making import load_inputs

COMMIT = "c" * 40
ROWS = [{"text": "oi", "label": 0}, {"text": "compre", "label": 1}, {"text": "?", "label": -1}]


def locate(source: dict[str, Any], folder: Path = Path("/none"), **data: Any) -> LocatedRows:
    config = DataConfig.model_validate_json(json.dumps({"train": source, **data}))
    return locate_rows(config.train[0], config, lambda path: folder / path, "data.train.0")


def hub_error(kind: type[Exception], status: int = 404) -> Exception:
    """Make an error of the hub's library as it makes them itself."""
    # The library's own copy of httpx, whatever its name is.
    library = __import__(errors.HfHubHTTPError.__mro__[1].__module__.split(".")[0])
    request = library.Request("GET", "https://hub.invalid")
    return kind("said the hub", response=library.Response(status, request=request))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Answer in the hub's place: a commit and rows, or errors."""

    def answer(info: Exception | None = None, load: Exception | None = None) -> list[Any]:
        calls: list[Any] = []

        def dataset_info(self: Any, repo_id: str, **options: Any) -> Any:
            calls.append((repo_id, options["revision"]))
            if info:
                raise info
            return SimpleNamespace(sha=COMMIT)

        def load_dataset(path: str, config: str | None, **options: Any) -> Any:
            calls.append((path, config, options))
            if load:
                raise load
            classes = datasets.ClassLabel(names=["ham", "spam"])
            features = datasets.Features({"text": datasets.Value("string"), "label": classes})
            return datasets.Dataset.from_list(ROWS, features=features)

        monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        return calls

    return answer


def test_a_dataset_is_its_commit(hub: Callable[..., list[Any]]) -> None:
    """The commit is asked for once, and the rows are read at it."""
    calls = hub()
    found = locate({"hub": "owner/name", "config": "pt", "split": "test", "revision": "main"})
    assert found.source.hub == HubDataset(
        dataset_id="owner/name", config="pt", split="test", commit=COMMIT, streaming=False
    )
    assert calls[0] == ("owner/name", "main")
    options = {"split": "test", "revision": COMMIT, "streaming": True}
    assert calls[1:] == [("owner/name", "pt", options)]
    other = locate({"hub": "owner/name", "config": "pt", "split": "train"})
    assert other.source.digest != found.source.digest


def test_a_full_commit_is_not_asked_for(hub: Callable[..., list[Any]]) -> None:
    """So that a dataset in the library's cache can be read without a network."""
    calls = hub(info=AssertionError("asked"))
    found = locate({"hub": "owner/name", "revision": COMMIT})
    assert found.source.hub is not None
    assert (found.source.hub.commit, len(calls)) == (COMMIT, 1)


def test_numbers_of_classes_become_their_names(
    hub: Callable[..., list[Any]], work: Workdir
) -> None:
    """The dataset says that 0 is ham; -1 is a row without a label, and is read as it stands."""
    hub()
    found = locate({"hub": "owner/name", "max_rows": 2})
    loaded = load_rows(load_inputs(found), work)
    assert (loaded.format, loaded.labels) == ("text_label", ("ham", "spam"))
    rows = read_rows(loaded.folder / "rows.parquet")
    assert [(row["line"], row["answer"]) for row in rows] == [(1, "ham"), (2, "spam")]


def test_the_recipes_names_go_before_the_datasets(
    hub: Callable[..., list[Any]], work: Workdir
) -> None:
    """data.labels names number 0; -1 is none of them, and is a bad row."""
    hub()
    found = locate({"hub": "owner/name"}, labels=["bom", "ruim"])
    loaded = load_rows(load_inputs(found), work)
    assert (loaded.labels, loaded.rows, loaded.bad_rows) == (("bom", "ruim"), 2, 1)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (
            hub_error(errors.RepositoryNotFoundError),
            ConfigError,
            r"data\.train\.0\.hub: 'o/n' does not exist, or is private.*HF_TOKEN",
        ),
        (hub_error(errors.GatedRepoError, 403), ConfigError, "is gated: accept .*HF_TOKEN"),
        (
            hub_error(errors.RevisionNotFoundError),
            ConfigError,
            r"data\.train\.0\.revision: 'o/n' has no such revision",
        ),
        (errors.HFValidationError("bad"), ConfigError, "neither a folder nor a name"),
        (errors.OfflineModeIsEnabled("off"), DataError, "no connection to the hub"),
        (httpx.ConnectError("refused"), DataError, "no connection to the hub"),
        (httpx.ReadTimeout("late"), DataError, "no connection to the hub"),
        (hub_error(errors.HfHubHTTPError, 503), DataError, "the hub refused the request"),
    ],
)
def test_what_the_hub_says_is_told(
    hub: Callable[..., list[Any]], error: Exception, kind: type[Exception], message: str
) -> None:
    """With the recipe's key and what to do; the errors are the library's own classes."""
    hub(info=error)
    with pytest.raises(kind, match=message):
        locate({"hub": "o/n"})


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (
            ValueError("BuilderConfig 'x' not found. Available: ['pt', 'en']"),
            ConfigError,
            r"data\.train\.0\.config: 'o/n' .*Available: \['pt', 'en'\]",
        ),
        (
            ValueError("Unknown split \"x\". Should be one of ['train']."),
            ConfigError,
            r"data\.train\.0\.split: 'o/n' .*one of \['train'\]",
        ),
        (DatasetNotFoundError("Dataset 'o/n' is a gated dataset"), ConfigError, "is gated"),
        (DatasetNotFoundError("Dataset 'o/n' doesn't exist"), ConfigError, "does not exist"),
        (ConnectionError("reset"), DataError, "no connection"),
        (OSError("bad zip"), DataError, r"datasets cannot read it \(bad zip\)"),
    ],
)
def test_what_the_library_says_is_told(
    hub: Callable[..., list[Any]], error: Exception, kind: type[Exception], message: str
) -> None:
    """Configurations and splits that exist are listed where the library lists them."""
    hub(load=error)
    with pytest.raises(kind, match=message):
        locate({"hub": "o/n"})


def test_an_error_of_our_own_is_not_explained_away(hub: Callable[..., list[Any]]) -> None:
    """A slip in the code is no network fault."""
    hub(info=KeyError("slip"))
    with pytest.raises(KeyError):
        locate({"hub": "o/n"})


def test_without_a_network_the_reason_comes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No library is replaced: tests run with HF_HUB_OFFLINE, which the hub's own obeys.

    Retries of a minute would sleep between two of them.
    """

    def sleep(_: float) -> None:
        raise AssertionError("it waits for another try")

    monkeypatch.setattr(time, "sleep", sleep)
    with pytest.raises(DataError, match="no connection to the hub"):
        locate({"hub": "owner/name"})


class TestFolder:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """A dataset as it lies on disk: two splits by their files' names."""
        made = tmp_path / "mine"
        made.mkdir()
        for name, answer in (("train", "a"), ("test", "b")):
            (made / f"{name}.jsonl").write_text(
                json.dumps({"instruction": "i", "output": answer}) + "\n", "utf-8"
            )
        return made

    def test_a_folder_stands_for_a_dataset(self, folder: Path, work: Workdir) -> None:
        """Read by the real library; it has no commit, and its digest is what it holds."""
        found = locate({"hub": "mine", "split": "test"}, folder.parent)
        assert found.source.hub is not None
        assert found.source.hub.commit is None
        loaded = load_rows(load_inputs(found), work)
        (row,) = read_rows(loaded.folder / "rows.parquet")
        assert (row["answer"], loaded.format) == ("b", "instruction")

    def test_a_change_in_the_folder_is_seen(self, folder: Path, work: Workdir) -> None:
        """Also one that the library's cache would miss; the stage refuses what changed."""
        found = locate({"hub": "mine"}, folder.parent)
        (folder / "train.jsonl").write_text('{"instruction": "i", "output": "c"}\n', "utf-8")
        again = locate({"hub": "mine"}, folder.parent)
        assert again.source.digest != found.source.digest
        with pytest.raises(DataError, match="changed since the run began"):
            load_rows(load_inputs(found), work)

    def test_an_unknown_split_names_those_there_are(self, folder: Path) -> None:
        """In the library's own words."""
        with pytest.raises(ConfigError, match=r"data\.train\.0\.split: .*train.*test"):
            locate({"hub": "mine", "split": "dev"}, folder.parent)

    def test_a_folder_has_no_revisions(self, folder: Path) -> None:
        """A stated one would be left out in silence."""
        with pytest.raises(ConfigError, match=r"revision: .* which has none"):
            locate({"hub": "mine", "revision": "main"}, folder.parent)
