"""What goes wrong around a whole run, and how that has to end; as data."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx

from retune.cli.services.servers import mlflow_server
from retune.tracking import default_uri
from tests.faults.run_faults import IN_TRAINING, TRAINING, a_run
from tests.faults.running_faults import Fault, restoring
from tests.faults.stage_faults import at, cut
from tests.faulty_proxy import FaultyProxy, State
from tests.flows.conftest import environment
from tests.preloading import start_command
from tests.serving import prefect_address
from tests.waiting import GUARD_SECONDS, closed_port, free_port, wait_until


@contextmanager
def prefect_is(state: State, delay: float = 0.0) -> Iterator[Mapping[str, str]]:
    with FaultyProxy(prefect_address(), delay=delay) as proxy:
        proxy.turn(state)
        yield {"PREFECT_API_URL": proxy.address}


@contextmanager
def prefect_turns(
    project: Path, state: State, well_after: float | None = None
) -> Iterator[Mapping[str, str]]:
    """Let Prefect's API do otherwise once the training has begun."""
    training = project / ".retune" / "train_adapter"
    with FaultyProxy(prefect_address()) as proxy:
        proxy.turn_when(lambda: any(training.glob("*/*")), state, well_after=well_after)
        yield {"PREFECT_API_URL": proxy.address}


@contextmanager
def mlflow_is(state: State) -> Iterator[Mapping[str, str]]:
    with closed_port() as port, FaultyProxy(f"http://127.0.0.1:{port}/") as proxy:
        proxy.turn(state)
        yield {"tracking.uri": proxy.address}


@contextmanager
def mlflow_turns(project: Path, state: State, *, delay: float = 0.0) -> Iterator[Mapping[str, str]]:
    """Serve the project's MLflow, and let it do otherwise once the training has begun."""
    store = project / ".retune"
    server = mlflow_server(free_port(), default_uri(store), store)
    server.start()
    try:
        wait_until(lambda: server.ended is not None or answers(server.health), what="MLflow")
        assert server.ended is None, f"MLflow's server ended with code {server.ended}"
        with FaultyProxy(server.address, delay=delay) as proxy:
            proxy.turn_when(lambda: any((store / "train_adapter").glob("*/*")), state)
            yield {"tracking.uri": proxy.address}
    finally:
        server.stop()


def answers(address: str) -> bool:
    try:
        return httpx.get(address).is_success
    except httpx.HTTPError:
        return False


@contextmanager
def database_is_held(project: Path) -> Iterator[None]:
    """Hold MLflow's database, as a backup does, for longer than one statement waits."""
    path = default_uri(project / ".retune").removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as database:
        database.execute("BEGIN EXCLUSIVE")
        yield
        database.rollback()


@contextmanager
def another_run(project: Path) -> Iterator[None]:
    """Start the same run beside; both have to end well."""
    other = start_command(
        "retune.cli",
        ["run", str(project / "recipe.yaml"), "--json"],
        folder=project,
        environment=environment(project),
    )
    yield
    done = other.finish(GUARD_SECONDS)
    assert done.returncode == 0, done.stderr[-3000:]


@contextmanager
def broken_memory_of_digests(project: Path) -> Iterator[Mapping[str, str]]:
    (project / "cache" / "retune").mkdir(parents=True)
    (project / "cache" / "retune" / "digests.sqlite").write_bytes(b"no database" * 500)
    yield {"XDG_CACHE_HOME": str(project / "cache")}


BROKEN: dict[str, State] = {"goes away": "away", "answers with errors": "failing"}


def services() -> list[Fault]:
    """Prefect and MLflow: away, failing, slow."""

    def of_prefect(state: State, delay: float = 0.0) -> Callable[[Path, str], Any]:
        return lambda _, __: prefect_is(state, delay)

    return [
        a_run("Prefect is away", beside=of_prefect("away"), code=7, says="Prefect", often=True),
        a_run("Prefect answers with errors", beside=of_prefect("failing"), code=7, says="Prefect"),
        a_run(
            "Prefect is slow",
            beside=of_prefect("slow", 0.2),
            gone=TRAINING,
            again="reused",
        ),
        *(
            a_run(
                f"Prefect {what} in training",
                beside=lambda project, _, state=state: prefect_turns(project, state),
                settings=("tracking.prefect_patience_seconds=1",),
                gone=TRAINING,
                code=7,
                # The training has been finished and sealed.
                says="score_perplexity is next",
                again="reused",
            )
            for what, state in BROKEN.items()
        ),
        *(
            a_run(
                f"Prefect {what} in training for a second",
                beside=lambda project, _, state=state: prefect_turns(project, state, 1.0),
                gone=TRAINING,
                again="reused",
            )
            for what, state in BROKEN.items()
        ),
        a_run("MLflow is away", beside=lambda *_: mlflow_is("away"), code=7, says="MLflow"),
        a_run(
            "MLflow answers with errors",
            beside=lambda *_: mlflow_is("failing"),
            code=7,
            says="MLflow",
        ),
        *(
            a_run(
                f"MLflow {what} in training",
                beside=lambda project, _, state=state: mlflow_turns(project, state),
                gone=TRAINING,
                code=7,
                says="MLflow",
                # The training has been finished and sealed.
                again="reused",
            )
            for what, state in BROKEN.items()
        ),
        a_run(
            "MLflow is slow from the training on",
            beside=lambda project, _: mlflow_turns(project, "slow", delay=0.2),
            gone=TRAINING,
            again="reused",
        ),
        a_run(
            "MLflow's database is held by another program",
            beside=lambda project, _: database_is_held(project),
            code=7,
            says="mlflow.db",
        ),
        a_run(
            "MLflow's database is none",
            code=7,
            says="mlflow.db",
            **restoring(".retune/mlflow/mlflow.db", b"no database" * 500),
        ),
    ]


def surroundings() -> list[Fault]:
    """Files of the project and of the store that change, or are not what they were."""
    row = {
        "path": "{project}/data/train.jsonl",
        "text": '{"id": "new", "db_id": "loja", "question": "?", "query": "SELECT 1"}\n',
    }
    return [
        a_run(
            "the same run beside it",
            gone=TRAINING,
            beside=lambda project, _: another_run(project),
            again="reused",
            often=True,
        ),
        a_run(
            "the recipe changes in the middle",
            at(
                *IN_TRAINING,
                "append",
                {"path": "{project}/recipe.yaml", "text": "gate:\n  min_gain: 0.9\n"},
                times=1,
            ),
            gone=TRAINING,
            # The decision alone is made anew, and says what the next recipe asked for.
            again="own",
            sound=lambda _: None,
        ),
        a_run(
            "the recipe becomes unreadable in the middle",
            at(*IN_TRAINING, "append", {"path": "{project}/recipe.yaml", "text": "\t: ["}, times=1),
            gone=TRAINING,
            again="reused",
            **restoring("recipe.yaml"),
        ),
        a_run(
            "rows are deleted in the middle",
            at(*IN_TRAINING, "write", row | {"text": ""}, times=1),
            gone=TRAINING,
            again="reused",
            **restoring("data/train.jsonl"),
        ),
        a_run(
            "the base changes while it is trained on",
            at(*IN_TRAINING, "append", {"path": "{project}/model/config.json", "text": " "}),
            gone=TRAINING,
            code=3,
            says="changed since the run began",
            **restoring("model/config.json"),
        ),
        a_run(
            "what is remembered of digests is no database",
            beside=lambda project, _: broken_memory_of_digests(project),
            gone=TRAINING,
            again="reused",
        ),
        a_run("earlier keys and requests were cut short", before=cut_notes, again="reused"),
        a_run("what estimates were off by was cut short", before=cut_calibration, again="reused"),
        a_run(
            "Prefect's own results are gone",
            before=lambda project: shutil.rmtree(project / "prefect"),
            again="reused",
        ),
        a_run("Prefect's own results were cut short", before=cut_results, again="reused"),
        a_run(
            "disk full as the report is written",
            at("open", r"/reports/\w+/", "disk", "ENOSPC"),
            code=4,
            says="no disk space left",
            again="reused",
        ),
        a_run(
            "the folder of logs cannot be written",
            at("open", r"/logs/", "disk", "EROFS"),
            gone=TRAINING,
            code=4,
            says="cannot be written",
        ),
        a_run(
            "the store cannot be written",
            before=lambda project: hide_store(project),
            lifted=lambda project: show_store(project),
            code=4,
            says="store.folder",
            again="reused",
        ),
        a_run(
            "every artifact of a model is cut short",
            before=cut_models,
            again="reused",
        ),
    ]


def cut_notes(project: Path) -> None:
    for kind in ("known", "requests"):
        for path in (project / ".retune" / kind).rglob("*.json"):
            cut(path)


def cut_calibration(project: Path) -> None:
    for path in (project / ".retune").glob("*calibration*.json"):
        cut(path)


def cut_results(project: Path) -> None:
    for path in (project / "prefect" / "storage").rglob("*"):
        if path.is_file():
            cut(path)


def hide_store(project: Path) -> None:
    (project / ".retune").rename(project / "aside")
    (project / ".retune").write_text("a file")


def show_store(project: Path) -> None:
    (project / ".retune").unlink()
    (project / "aside").rename(project / ".retune")


def cut_models(project: Path) -> None:
    for stage in ("quantize_model", "train_adapter", "merge_adapter"):
        for path in (project / ".retune" / stage).glob("*/*.safetensors"):
            cut(path)


def surrounding_faults() -> list[Fault]:
    """Return what goes wrong around a whole run: servers, and files that it reads."""
    return [*services(), *surroundings()]
