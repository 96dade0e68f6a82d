"""`retune export` and `retune push` in a terminal: what they take, and what they print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from retune.cli.registered.publishing import Registry, export_model, parse_address, push_model
from retune.errors import ConfigError
from retune.publishing.records import ExportRequest
from tests.retune.registry.forms.test_bundles import MERGED, BundleBench


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bench = BundleBench(tmp_path_factory.mktemp("registry"))
    bench.register("tiny-model", MERGED)
    return bench.root


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tiny", ("tiny", "champion")),
        ("tiny@previous", ("tiny", "previous")),
        ("tiny/3", ("tiny", 3)),
        ("models:/tiny@champion", ("tiny", "champion")),
    ],
)
def test_a_version_is_named_as_in_mlflow_or_shorter(
    text: str, expected: tuple[str, int | str]
) -> None:
    """The champion where nothing more is said."""
    assert parse_address(text) == expected


@pytest.mark.parametrize("text", ["", "tiny/", "tiny/latest", "a/b/c", "tiny@", "tiny@a@b"])
def test_what_names_no_version_is_refused(text: str) -> None:
    """With how one is named."""
    with pytest.raises(ConfigError, match="NAME@alias or NAME/VERSION"):
        parse_address(text)


def test_an_export_says_what_it_wrote_and_what_it_lacks(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Numbers for people on one stream, one JSON object on the other."""
    request = ExportRequest(form="merged", target=tmp_path / "out")

    export_model("tiny-model/1", Registry(None, store), request, as_json=True)

    told = capsys.readouterr()
    assert json.loads(told.out)["proof"]["answers_equal"] == 8
    assert "tiny-model version 1 as merged: 7 files" in told.err
    assert "8 of 8 prompts answered like version 1" in told.err
    assert "note: no manifest is kept of this version" in told.err


def test_a_push_is_said_first_and_not_sent(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No token is needed to be told; to send, its absence is told before anything is copied."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    request = ExportRequest(form="merged", target=Path(), prove=False)

    def push(*, yes: bool) -> None:
        push_model(
            "tiny-model",
            Registry(None, store),
            request,
            repository="owner/tiny",
            public=False,
            message=None,
            yes=yes,
            as_json=False,
        )

    push(yes=False)
    told = capsys.readouterr().out
    assert "model.safetensors" in told and "private; commit: tiny-model version 1" in told
    assert "Nothing was sent. Write --yes" in told
    with pytest.raises(ConfigError, match="HF_TOKEN is not set"):
        push(yes=True)
    assert "model.safetensors" not in capsys.readouterr().out
