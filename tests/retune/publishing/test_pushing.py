"""Sending to a hub: with the hub's own client, to a small hub on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from retune.errors import ArtifactError, ConfigError, ServiceError
from retune.publishing.pushing import check_repository, plan_push, read_token, send
from retune.registry.versions.descriptions import VersionDescription
from tests.retune.publishing.hub import COMMIT, Hub, serve_hub
from tests.retune.publishing.test_exporting import export
from tests.waiting import free_port

Describe = Callable[[str], VersionDescription]
REPOSITORY = "owner/tiny-model"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The client reads where the hub is, and whether it may be asked, when it is imported."""
    with serve_hub() as hub:
        point_at(hub.address, monkeypatch)
        yield hub


def point_at(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


@pytest.fixture
def exported(describe: Describe, target: Path, tmp_path: Path) -> Path:
    export(describe("merged"), target, tmp_path, prove=False)
    return target


def test_a_folder_is_sent_whole_and_private(hub: Hub, exported: Path) -> None:
    """Every file as it is, in one commit that says what it is, to a repository of its owner."""
    push = plan_push(exported, REPOSITORY, private=True, message=None)
    assert push.commit is None

    sent = send(exported, push, "hf_secret")

    assert hub.private == {REPOSITORY: True}
    assert hub.files == {path.name: path.read_bytes() for path in exported.iterdir()}
    assert {*push.files} == {*hub.files}
    assert push.files["model.safetensors"] == len(hub.files["model.safetensors"])
    assert hub.messages == ["merged version 1 as merged"]
    assert sent.commit == f"{hub.address}/{REPOSITORY}/commit/{COMMIT}"
    assert hub.tokens == {"Bearer hf_secret"}


def test_weights_of_an_earlier_version_go(hub: Hub, exported: Path) -> None:
    """Left there, they would be loaded in place of the new ones; what else is there stays."""
    hub.private[REPOSITORY] = True
    hub.files |= {"model-00001-of-00002.safetensors": b"old", "notes.md": b"mine"}

    push = plan_push(exported, REPOSITORY, private=True, message="Second")
    send(exported, push, "hf_secret")

    assert hub.deleted == ["model-00001-of-00002.safetensors"]
    assert hub.files["notes.md"] == b"mine"
    assert hub.messages == ["Second"]


def test_a_public_repository_gets_nothing_unasked(hub: Hub, exported: Path) -> None:
    """Private is what was promised; --public is said by a person."""
    hub.private[REPOSITORY] = False
    with pytest.raises(ConfigError, match=r"everybody sees it. Nothing was sent.*--public"):
        send(exported, plan_push(exported, REPOSITORY, private=True, message=None), "t")
    assert hub.files == {}

    send(exported, plan_push(exported, REPOSITORY, private=False, message=None), "t")
    assert "model.safetensors" in hub.files


@pytest.mark.parametrize("status", [403, 401])
def test_a_token_that_may_not_write_is_told(hub: Hub, exported: Path, status: int) -> None:
    """Never with the token."""
    hub.refuse = status
    with pytest.raises(ConfigError, match="HF_TOKEN may not write there") as told:
        send(exported, plan_push(exported, REPOSITORY, private=True, message=None), "hf_secret")
    assert "hf_secret" not in str(told.value)


def test_a_hub_that_is_away_is_told(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service error, so that a schedule may try again."""
    point_at(f"http://127.0.0.1:{free_port()}", monkeypatch)
    with pytest.raises(ServiceError, match="does not answer"):
        send(exported, plan_push(exported, REPOSITORY, private=True, message=None), "t")


def test_offline_is_told_as_what_it_is(
    exported: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable is named."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE is set"):
        send(exported, plan_push(exported, REPOSITORY, private=True, message=None), "t")


def test_an_export_that_was_changed_is_not_sent(exported: Path) -> None:
    """What is sent is what was proved."""
    (exported / "config.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"config.json is not what was exported"):
        plan_push(exported, REPOSITORY, private=True, message=None)
    with pytest.raises(ArtifactError, match="finished export"):
        plan_push(exported.parent, REPOSITORY, private=True, message=None)


@pytest.mark.parametrize("name", ["tiny", "a/b/c", "owner/na me", "../x", "owner/a--b", "-a/b"])
def test_a_repository_needs_an_owner_and_a_name(name: str) -> None:
    """As the hub has them."""
    check_repository(REPOSITORY)
    with pytest.raises(ConfigError, match="OWNER/NAME"):
        check_repository(name)


def test_a_token_comes_from_the_environment_alone() -> None:
    """Without one the variable is named."""
    assert read_token({"HF_TOKEN": " hf_secret\n"}) == "hf_secret"
    with pytest.raises(ConfigError, match="HF_TOKEN is not set"):
        read_token({})
