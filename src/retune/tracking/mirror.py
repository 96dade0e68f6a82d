"""MLflow as a mirror: it is written from records and never fails a stage.

What a run says is true in the store; MLflow shows it. So a server that dies in the middle of a run
costs one warning and a few seconds, and what was not sent is kept as JSON lines that the next
`close` of the same run sends. Only `check_tracking`, before any expensive work, raises.

Metrics are keyed by (run, name, step): a step that was logged before is not logged twice, so a
resumed training may replay all of its figures.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from retune.tracking.connecting import connect, open_experiment, unreachable
from retune.tracking.entries import Step, apply_entry, flatten_params

if TYPE_CHECKING:
    from mlflow import MlflowClient

T = TypeVar("T")
RunStatus = Literal["FINISHED", "FAILED", "KILLED"]

STAGE_KEY_TAG = "retune.stage_key"
PARENT_TAG = "mlflow.parentRunId"

_BUFFERED_POINTS = 50
_BUFFER_SECONDS = 1.0
_REFUSALS = {
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "PERMISSION_DENIED",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
}
"""Error codes of a server that is well and does not want this one call."""


class Mirror:
    """Writes runs to MLflow; after a failure it keeps them in files instead and says so once.

    Args:
        uri: Address of the database or server.
        experiment: Name of the experiment.
        artifact_root: Folder of artifacts; a server has its own and does not use it.
        store_root: The artifact store's folder; unsent lines go to ``mlflow/unsent`` below it.

    Attributes:
        warnings: One sentence per thing that MLflow did not get.
    """

    def __init__(self, uri: str, experiment: str, *, artifact_root: str, store_root: Path) -> None:
        self.uri = uri
        self.experiment = experiment
        self.warnings: list[str] = []
        self._artifact_root = artifact_root
        self._unsent = store_root.resolve() / "mlflow" / "unsent"
        self._client: MlflowClient | None = None
        self._experiment_id: str | None = None
        self._reachable = True
        self._failed = False
        self._buffer: dict[str, list[dict[str, Any]]] = {}
        self._flushed_at = time.monotonic()
        self._logged: dict[str, set[Step]] = {}
        # Prefect runs tasks in threads of one process.
        self._lock = threading.RLock()

    def open_parent(self, name: str, tags: Mapping[str, str]) -> str:
        """Start the run of one flow run.

        Args:
            name: Shown name.
            tags: Tags such as the Prefect run's id.

        Returns:
            The run's id; one that begins with ``unsent-`` when MLflow does not answer.
        """
        return self._ask(lambda: self._create_run(name, dict(tags))) or _unsent_id()

    def open_training(self, parent_id: str, stage_key: str, name: str) -> str:
        """Start a nested run, or go on with the one of the same stage key.

        A run that an earlier flow run left unfinished moves below `parent_id`. A finished one stays
        where it is, and gets nothing new, because its steps are logged.

        Args:
            parent_id: The run of the flow run.
            stage_key: Key of the training stage.
            name: Shown name of a new run.

        Returns:
            The run's id.
        """
        return self._ask(lambda: self._find_or_create(parent_id, stage_key, name)) or _unsent_id()

    def find_training(self, stage_key: str) -> str | None:
        """Return the id of the run that a training stage was logged to, if any."""
        found = self._ask(lambda: self._search(stage_key))
        return found[0] if found else None

    def params(self, run_id: str, mapping: Mapping[str, Any]) -> None:
        """Log settings, flattened; a name that the run has keeps its first value."""
        self._write(run_id, {"kind": "params", "params": flatten_params(mapping)})

    def metrics(self, run_id: str, mapping: Mapping[str, float], step: int = 0) -> None:
        """Log figures of one step, sent in batches.

        Args:
            run_id: The run.
            mapping: Value by name.
            step: Training step, 0 for figures of the whole run.
        """
        now = int(time.time() * 1000)
        with self._lock:
            self._buffer.setdefault(run_id, []).extend(
                {"name": name, "value": float(value), "step": step, "timestamp": now}
                for name, value in mapping.items()
            )
            full = sum(map(len, self._buffer.values())) >= _BUFFERED_POINTS
            if full or time.monotonic() - self._flushed_at >= _BUFFER_SECONDS:
                self.flush()

    def flush(self) -> None:
        """Send the buffered metrics."""
        with self._lock:
            buffer, self._buffer = self._buffer, {}
            for run_id, points in buffer.items():
                self._write(run_id, {"kind": "metrics", "points": points})
            self._flushed_at = time.monotonic()

    def artifact(self, run_id: str, path: Path, folder: str | None = None) -> None:
        """Log a file, or all files of a folder, into a folder of the run's artifacts."""
        self._write(run_id, {"kind": "artifact", "path": str(path.resolve()), "folder": folder})

    def text(self, run_id: str, text: str, name: str) -> None:
        """Log a text as an artifact file."""
        self._write(run_id, {"kind": "text", "text": text, "name": name})

    def tags(self, run_id: str, mapping: Mapping[str, str]) -> None:
        """Set tags; a later value replaces an earlier one."""
        self._write(run_id, {"kind": "tags", "tags": dict(mapping)})

    def dataset(self, run_id: str, name: str, digest: str, *, rows: int, context: str) -> None:
        """Log which rows a run used, under our own digest.

        MLflow's digest covers the first 10,000 rows only, and its field holds 36 characters: it
        shows the first 36 of ours, and the whole one stands in the profile.

        Args:
            run_id: The run.
            name: The dataset's name.
            digest: sha256 (hex) of its content.
            rows: How many rows.
            context: What they were used for, such as ``training``.
        """
        entry = {"name": name, "digest": digest, "rows": rows, "context": context}
        self._write(run_id, {"kind": "dataset", **entry})

    def address(self, run_id: str) -> str | None:
        """Return where MLflow's UI shows a run; None where no server does, or it is away."""
        if not self.uri.startswith(("http://", "https://")) or run_id.startswith("unsent-"):
            return None
        experiment = self._ask(self._opened_experiment)
        shown = self.uri.rstrip("/")
        return experiment and f"{shown}/#/experiments/{experiment}/runs/{run_id}"

    def close(self, run_id: str, status: RunStatus) -> None:
        """End a run, after a last attempt to send what it still owes.

        Args:
            run_id: The run.
            status: How it ended.
        """
        self.flush()
        self._write(run_id, {"kind": "status", "status": status})
        self._send_kept(run_id)

    def _create_run(self, name: str, tags: dict[str, str]) -> str:
        client = self._connected()
        run = client.create_run(self._opened_experiment(), run_name=name, tags=tags)
        return str(run.info.run_id)

    def _search(self, stage_key: str) -> tuple[str, str] | None:
        found = self._connected().search_runs(
            [self._opened_experiment()],
            filter_string=f"tags.`{STAGE_KEY_TAG}` = '{stage_key}'",
            max_results=1,
            order_by=["attributes.start_time ASC"],
        )
        return (str(found[0].info.run_id), str(found[0].info.status)) if found else None

    def _find_or_create(self, parent_id: str, stage_key: str, name: str) -> str:
        found = self._search(stage_key)
        if found is None:
            return self._create_run(name, {STAGE_KEY_TAG: stage_key, PARENT_TAG: parent_id})
        run_id, status = found
        if status != "FINISHED":
            self._connected().update_run(run_id, status="RUNNING")
            self._connected().set_tag(run_id, PARENT_TAG, parent_id)
        return run_id

    def _connected(self) -> MlflowClient:
        if self._client is None:
            self._client = connect(self.uri)
        return self._client

    def _opened_experiment(self) -> str:
        if self._experiment_id is None:
            self._experiment_id = open_experiment(
                self._connected(), self.experiment, self._artifact_root
            )
        return self._experiment_id

    def _ask(self, question: Callable[[], T]) -> T | None:
        with self._lock:
            if not self._reachable:
                return None
            try:
                return question()
            except Exception as error:  # noqa: BLE001 - a mirror must not end a run that goes well
                self._note_failure(error)
                return None

    def _write(self, run_id: str, entry: dict[str, Any]) -> None:
        with self._lock:
            if run_id.startswith("unsent-") or not self._send(run_id, entry):
                self._keep(run_id, entry)

    def _send(self, run_id: str, entry: dict[str, Any]) -> bool:
        """Return False when MLflow did not answer; what it refused is gone, with a warning."""
        if not self._reachable:
            return False
        try:
            apply_entry(self._connected(), run_id, entry, self._logged)
        except Exception as error:  # noqa: BLE001 - a mirror must not end a run that goes well
            return self._note_failure(error)
        return True

    def _note_failure(self, error: Exception) -> bool:
        """Return True for a refusal, which sending again would not change."""
        if _is_refusal(error):
            self._warn(f"MLflow refused an entry ({str(error).splitlines()[0]:.300}).")
            return True
        self._reachable = False
        if not self._failed:
            self._failed = True
            self._warn(
                f"{str(unreachable(self.uri, error)).partition('). ')[0]}). The run goes on "
                f"without it; what it did not get is kept in {self._unsent}."
            )
        return False

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)

    def _keep(self, run_id: str, entry: dict[str, Any]) -> None:
        try:
            self._unsent.mkdir(parents=True, exist_ok=True)
            with open(self._unsent / f"{run_id}.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        except OSError as error:
            self._warn(f"{self._unsent}: cannot be written ({error.strerror}); figures are lost.")

    def _send_kept(self, run_id: str) -> None:
        path = self._unsent / f"{run_id}.jsonl"
        with self._lock:
            if run_id.startswith("unsent-") or not path.is_file():
                return
            self._reachable = True
            entries = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
            # Sending an entry twice does no harm, so the file goes only when all of it is sent.
            if all(self._send(run_id, entry) for entry in entries):
                path.unlink()
                self._warn("MLflow answers again and has now got what was kept.")


def _unsent_id() -> str:
    return f"unsent-{uuid.uuid4().hex}"


def _is_refusal(error: Exception) -> bool:
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        return error.error_code in _REFUSALS
    return isinstance(error, FileNotFoundError)
