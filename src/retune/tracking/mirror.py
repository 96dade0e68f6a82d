"""MLflow as a mirror: it is written from records and never fails a stage.

What a run says is true in the store; MLflow shows it. So a server that dies in the middle of a run
costs one warning and a few seconds, and what was not sent is kept (`retune.tracking.unsent`) until
this run ends, or the next one, or `retune send`. Only `check_tracking`, before any expensive work,
raises.

Metrics are keyed by (run, name, step): a step that was logged before is not logged twice, so a
resumed training may replay all of its figures.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from retune.tracking.connecting import connect, open_experiment, unreachable
from retune.tracking.entries import Step, apply_entry, flatten_params
from retune.tracking.sending import (
    PARENT_TAG,
    STAGE_KEY_TAG,
    find_by_tag,
    is_refusal,
    send_unsent,
)
from retune.tracking.unsent import PREFIX, UnsentEntries, is_unsent

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

T = TypeVar("T")
RunStatus = Literal["FINISHED", "FAILED", "KILLED"]

_BUFFERED_POINTS = 50
_BUFFER_SECONDS = 1.0


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
        self._unsent = UnsentEntries(store_root)
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
        created = self._ask(lambda: self._create_run(name, dict(tags)))
        return created or self._open_unsent(name, tags)

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
        tags = {STAGE_KEY_TAG: stage_key, PARENT_TAG: parent_id}
        found = self._ask(lambda: self._find_or_create(tags, name))
        return found or self._open_unsent(name, tags)

    def find_training(self, stage_key: str) -> str | None:
        """Return the id of the run that a training stage was logged to, if any."""
        found = self._ask(lambda: self._search(stage_key))
        return str(found.info.run_id) if found else None

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
        if not self.uri.startswith(("http://", "https://")) or is_unsent(run_id):
            return None
        experiment = self._ask(self._opened_experiment)
        shown = self.uri.rstrip("/")
        return experiment and f"{shown}/#/experiments/{experiment}/runs/{run_id}"

    def close(self, run_id: str, status: RunStatus) -> None:
        """End a run, and try to send what MLflow still has to get, of earlier runs too.

        Args:
            run_id: The run.
            status: How it ended.
        """
        self.flush()
        self._write(run_id, {"kind": "status", "status": status})
        self._send_kept()

    def _create_run(self, name: str, tags: dict[str, str]) -> str:
        client = self._connected()
        run = client.create_run(self._opened_experiment(), run_name=name, tags=tags)
        return str(run.info.run_id)

    def _search(self, stage_key: str) -> Run | None:
        experiment = self._opened_experiment()
        return find_by_tag(self._connected(), [experiment], STAGE_KEY_TAG, stage_key)

    def _find_or_create(self, tags: dict[str, str], name: str) -> str:
        found = self._search(tags[STAGE_KEY_TAG])
        if found is None:
            return self._create_run(name, tags)
        if found.info.status != "FINISHED":
            self._connected().update_run(found.info.run_id, status="RUNNING")
            self._connected().set_tag(found.info.run_id, PARENT_TAG, tags[PARENT_TAG])
        return str(found.info.run_id)

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
            if is_unsent(run_id) or not self._send(run_id, entry):
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
        if is_refusal(error):
            self._warn(f"MLflow refused an entry ({str(error).splitlines()[0]:.300}).")
            return True
        self._reachable = False
        if not self._failed:
            self._failed = True
            self._warn(
                f"{str(unreachable(self.uri, error)).partition('). ')[0]}). The run goes on "
                f"without it; what it did not get is kept in {self._unsent.folder}."
            )
        return False

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)

    def _open_unsent(self, name: str, tags: Mapping[str, str]) -> str:
        try:
            return self._unsent.open_run(self.experiment, name, tags)
        except OSError as error:
            return self._lose(error)

    def _keep(self, run_id: str, entry: dict[str, Any]) -> None:
        try:
            self._unsent.keep(run_id, entry)
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> str:
        folder = self._unsent.folder
        self._warn(f"{folder}: cannot be written ({error.strerror}); figures are lost.")
        return f"{PREFIX}lost"

    def _send_kept(self) -> None:
        with self._lock:
            if not self._unsent.runs():
                return
            self._reachable = True
            try:
                sent = list(
                    send_unsent(self._connected(), self._unsent, self._artifact_root, self._logged)
                )
            except Exception as error:  # noqa: BLE001 - a mirror must not end a run that goes well
                self._note_failure(error)
                return
            for each in sent:
                if each.left:
                    self._warn(f"What is kept of run {each.kept_as} stays: {each.left}.")
                for refused in each.refused:
                    self._warn(f"MLflow refused an entry that was kept ({refused}).")
            if any(each.run_id for each in sent):
                self._warn("MLflow answers again and has now got what was kept.")
