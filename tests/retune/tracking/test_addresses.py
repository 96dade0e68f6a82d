"""Where MLflow is: recipe, environment, store, and where the path in an address starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from retune.errors import ConfigError
from retune.recipe.loading import load_recipe
from retune.tracking import Tracking, choose_tracking
from retune.tracking.addresses import is_sqlite, sqlite_path
from retune.watching import WATCHER, SilentWatcher

ROOT, STORE = Path("/project"), Path("/store")


def choose(uri: str | None = None, experiment: str | None = None, **environment: str) -> Tracking:
    """Choose for a recipe named small in a project at /project."""
    return choose_tracking(
        uri,
        experiment,
        name="small",
        store_root=STORE,
        resolve=lambda path: ROOT / path,
        environment=environment,
    )


@pytest.mark.parametrize(
    ("written", "absolute"),
    [
        ("sqlite:///one.db", "sqlite:////project/one.db"),
        ("sqlite:///runs/one.db", "sqlite:////project/runs/one.db"),
        ("sqlite:////tmp/one.db", "sqlite:////tmp/one.db"),
        ("sqlite+pysqlite:///one.db", "sqlite+pysqlite:////project/one.db"),
        ("sqlite:///one.db?timeout=3", "sqlite:////project/one.db?timeout=3"),
        ("sqlite:///file:one.db?uri=true", "sqlite:///file:/project/one.db?uri=true"),
        ("http://one.db:5000", "http://one.db:5000"),
        ("postgresql://host/one.db", "postgresql://host/one.db"),
    ],
)
def test_the_path_in_an_address_starts_at_the_projects_root(written: str, absolute: str) -> None:
    """SQLite's own rule, the current folder, would make a database wherever retune is called."""
    assert choose(written).uri == absolute
    assert choose(MLFLOW_TRACKING_URI=written).uri == absolute


def test_the_current_folder_plays_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe opened from two folders names one database, below its root."""
    from tasks.runs.opening import prepare_run

    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "elsewhere").mkdir()
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "name: r\nmodel: {id: m}\ndata: {train: rows.jsonl}\nregistry: {model_name: r}\n"
    )
    token = WATCHER.set(SilentWatcher())
    found: list[Any] = []
    for folder in (tmp_path, tmp_path / "elsewhere"):
        monkeypatch.chdir(folder)
        loaded = load_recipe(recipe, ["tracking.uri=sqlite:///one.db"])
        found.append(prepare_run(loaded, direct=True).context["tracking_uri"])
    WATCHER.reset(token)
    assert found == [f"sqlite:///{tmp_path}/one.db"] * 2


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:one.db"])
def test_an_address_without_a_file_is_refused(uri: str) -> None:
    """In memory a database would be gone with the process; the message says how to write one."""
    with pytest.raises(ConfigError, match="names no file; expected sqlite:///PATH"):
        choose(uri)


@pytest.mark.parametrize("address", ["http://[::1", "http://[host]:5000"])
def test_what_cannot_be_read_as_an_address_is_named(address: str) -> None:
    """By the variable or the key that holds it."""
    with pytest.raises(ConfigError, match=r"MLFLOW_TRACKING_URI: http://\[.* is no address"):
        choose(MLFLOW_TRACKING_URI=address)
    with pytest.raises(ConfigError, match=r"tracking\.uri: http://\[.* is no address"):
        choose(address)


def test_a_root_that_mlflow_would_misread_is_refused() -> None:
    """A % of the project's folder would become part of an address that the user wrote without."""
    with pytest.raises(ConfigError, match="%"):
        choose_tracking(
            "sqlite:///one.db", None, name="r", store_root=STORE,
            resolve=lambda path: Path("/a%20b") / path, environment={},
        )  # fmt: skip


def test_the_recipe_wins_over_the_environment_and_the_environment_over_the_store() -> None:
    """Three places in order; only what the environment decides is said."""
    server, named = "http://127.0.0.1:5000", {"MLFLOW_TRACKING_URI": "http://other:5000"}
    assert choose(server, **named) == Tracking(server, "small", ())
    found = choose(**named)
    assert found.uri == "http://other:5000"
    assert "MLflow: http://other:5000, from MLFLOW_TRACKING_URI" in found.notes[0]
    assert choose() == Tracking("sqlite:////store/mlflow/mlflow.db", "small", ())


def test_blank_variables_say_nothing() -> None:
    """An empty MLFLOW_TRACKING_URI is one that is not set, as it is for MLflow."""
    assert choose(MLFLOW_TRACKING_URI=" ", MLFLOW_EXPERIMENT_NAME="") == choose()


def test_an_experiment_of_the_environment_counts_and_is_said() -> None:
    """The recipe's own wins; without one the variable does, before the recipe's name."""
    assert choose(None, "mine", MLFLOW_EXPERIMENT_NAME="theirs").experiment == "mine"
    found = choose(MLFLOW_EXPERIMENT_NAME="theirs")
    assert found.experiment == "theirs"
    assert "theirs, from MLFLOW_EXPERIMENT_NAME" in found.notes[0]


def test_variables_that_cannot_be_followed_are_said() -> None:
    """A run of its own and one registry: MLflow's users would expect these three to count."""
    names = ("MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID", "MLFLOW_REGISTRY_URI")
    (note,) = choose(**dict.fromkeys(names, "7")).notes
    assert note.startswith(", ".join(names))
    assert choose("http://h", MLFLOW_REGISTRY_URI="http://h").notes == ()


def test_a_password_in_the_variable_is_refused_and_not_shown() -> None:
    """The address goes into requests and manifests, and a secret must not."""
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_PASSWORD") as caught:
        choose(MLFLOW_TRACKING_URI="http://ana:geheim@host")
    assert "geheim" not in str(caught.value)


def test_a_sqlite_address_gives_its_file() -> None:
    """Driver, query and the file: of SQLite's own addresses are no part of it."""
    assert sqlite_path("sqlite+pysqlite:///file:/a/b.db?uri=true") == Path("/a/b.db")
    assert is_sqlite("sqlite+pysqlite:///x") and not is_sqlite("postgresql://sqlite:1/x")
