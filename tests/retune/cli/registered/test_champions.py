"""`retune history`, `champion`, `rollback` and `promote`, as a person calls them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from retune.cli.app import app
from retune.cli.registered import champions
from retune.cli.services.places import RegistryPlace
from retune.cli.services.serving import make_teller
from retune.errors import ArtifactError, ConfigError, RetuneError
from retune.registry.versions.finding import find_opponent
from retune.registry.versions.proving import ANSWERS_FILE
from retune.serving.notices import Notice
from retune.tracking import connect
from tasks.retrain import announcing
from tests.retune.registry.test_registering import Bench
from tests.serving import on_shared_server

NAME = "text-to-sql"


@pytest.fixture(scope="module", autouse=True)
def shared_server() -> Iterator[None]:
    """Tell events to the server of all tests: each command here would start one of its own."""
    with on_shared_server():
        yield


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Two champions after each other."""
    bench = Bench(tmp_path_factory.mktemp("store"))
    bench.register(NAME, 1)
    bench.register(NAME, 2)
    return bench


def call(bench: Bench, *arguments: str) -> str:
    """Return what a command prints to standard output; raise what it fails with."""
    done = CliRunner().invoke(app, [*arguments, "--store", str(bench.root)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return str(done.stdout)


def test_a_champion_is_taken_back_and_put_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way of a person who finds that the champion is bad, and then that it was not."""
    monkeypatch.setenv("LOGNAME", "ada")

    def champion() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(call(bench, "champion", NAME, "--json"))
        return found

    assert champion()["champion"]["version"] == 2
    assert champion()["previous"]["version"] == 1

    line = json.loads(call(bench, "rollback", NAME, "--reason", "it is rude", "--json"))

    assert (line["kind"], line["from_version"], line["to_version"]) == ("rolled_back", 2, 1)
    assert (line["actor"], line["reason"]) == ("ada", "it is rude")
    assert champion()["champion"]["version"] == 1
    # The reason is of the version that was taken back.
    assert "rolled back from version 2, by ada" in " ".join(call(bench, "champion", NAME).split())

    # Made champion again in MLflow: nothing is decided before a person settles that.
    connect(bench.uri).set_registered_model_alias(NAME, "champion", "2")
    assert "withdrawn" in champion()["note"] and "--allow" in champion()["note"]
    connect(bench.uri).set_registered_model_alias(NAME, "champion", "1")

    page = bench.root / "reports" / f"overview-{NAME}" / "overview.html"
    assert "it is rude" in page.read_text("utf-8")
    run = connect(bench.uri).get_model_version(NAME, "1").run_id
    assert run is None or connect(bench.uri).list_artifacts(run, "overview")

    def prove(*_: Any, **__: Any) -> int:
        raise AssertionError("a model that is refused anyway was loaded first")

    with monkeypatch.context() as patched:
        patched.setattr(champions, "prove_version", prove)
        with pytest.raises(ConfigError, match=r"withdrawn on .* by ada .*it is rude.*--allow"):
            call(bench, "promote", NAME, "2", "--reason", "it was not")
    told = call(bench, "promote", NAME, "2", "--reason", "it was not", "--allow")
    assert "it was not" in page.read_text("utf-8")

    assert "Promoted: champion is version 2, before it was version 1" in " ".join(told.split())
    history = json.loads(call(bench, "history", NAME, "--json"))
    assert [each["kind"] for each in history] == [
        "promoted",
        "promoted",
        "rolled_back",
        "promoted",
    ]
    shown = call(bench, "history", NAME)
    assert f"Ledger of {NAME}" in shown and "rolled back" in shown


def test_what_a_server_refuses_is_in_the_history_and_told_where_prefect_is(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a server of Prefect's the line alone: an event would start one."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    events: list[dict[str, Any]] = []
    monkeypatch.setattr(announcing, "emit_event", lambda **event: events.append(event))
    tell = make_teller(RegistryPlace(bench.uri, bench.root), NAME, "server web-1:8000")
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        tell(Notice("refused", 2, "a stored prompt is answered otherwise"))
    assert events == []
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        tell(Notice("let_go", 1, "3 of its last 3 answers failed"))

    assert [(each["event"], each["payload"]["version"]) for each in events] == [
        ("retune.let-go", 1)
    ]
    assert events[0]["payload"]["actor"] == "server web-1:8000"
    shown = " ".join(call(bench, "history", NAME).split())
    assert "refused" in shown and "let go" in shown and "web-1:8000" in shown
    lines = json.loads(call(bench, "history", NAME, "--json"))
    assert [each["reason"] for each in lines[-2:]] == [
        "a stored prompt is answered otherwise",
        "3 of its last 3 answers failed",
    ]


def test_a_target_that_cannot_be_proved_leaves_the_champion(bench: Bench) -> None:
    """The proof comes before anything is moved."""
    champion = find_opponent(bench.uri, NAME, "another")
    assert champion is not None
    before = json.loads(call(bench, "history", NAME, "--json"))
    answers = bench.root.rglob(ANSWERS_FILE)
    [target] = [path for path in answers if path.parent != champion.weights.parent]
    kept = target.read_bytes()
    target.write_text("{")
    try:
        with pytest.raises(ArtifactError, match=r"stored answers .* cannot be read"):
            call(bench, "rollback", NAME, "--reason", "it is rude")
    finally:
        target.write_bytes(kept)

    assert find_opponent(bench.uri, NAME, "another") == champion
    assert json.loads(call(bench, "history", NAME, "--json")) == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("history", "absent"), "no model of this name; it has: empty, text-to-sql"),
        (("champion", "../x:y"), "is no name of a registered model"),
        (("champion", "empty"), "has no champion"),
        (("rollback", "empty", "--reason", "why"), "has no champion"),
        (("rollback", NAME, "--to", "9", "--reason", "why"), "no version 9"),
        (("promote", NAME, "9", "--reason", "why"), "no version 9"),
        (("rollback", NAME, "--reason", " "), "--reason is empty"),
    ],
)
def test_what_cannot_be_is_said(bench: Bench, arguments: tuple[str, ...], expected: str) -> None:
    """A wrong name or version is an error of what was asked, with the exit code of one."""
    if not connect(bench.uri).search_registered_models("name = 'empty'"):
        connect(bench.uri).create_registered_model("empty")

    with pytest.raises(RetuneError, match=expected) as caught:
        call(bench, *arguments)
    assert caught.value.exit_code == ConfigError.exit_code


@pytest.mark.parametrize(
    "arguments",
    [
        ("history", NAME),
        ("export", NAME, "--as", "merged", "--to", "out"),
        ("push", NAME, "--as", "merged", "--repo", "owner/name"),
    ],
)
def test_a_place_without_mlflow_is_said_and_stays_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """Looking makes no database."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    done = CliRunner().invoke(app, [*arguments, "--store", str(tmp_path / "none")])

    assert isinstance(done.exception, ConfigError)
    assert "there is no MLflow database" in done.exception.message
    assert not (tmp_path / "none").exists()


def test_an_alias_that_was_moved_by_hand_is_said(bench: Bench) -> None:
    """`retune champion` shows what is champion, and that no line says so."""
    client = connect(bench.uri)
    before = client.get_model_version_by_alias(NAME, "champion").version
    client.set_registered_model_alias(NAME, "champion", "1")
    try:
        found = json.loads(call(bench, "champion", NAME, "--json"))
    finally:
        client.set_registered_model_alias(NAME, "champion", before)

    assert found["champion"]["version"] == 1 and found["since"] is None
    assert "moved outside of retune" in found["note"]
