"""What MLflow did not get, kept in the store's folder until it is sent.

    mlflow/unsent/<run>.jsonl            entries in their order, one a line
    mlflow/unsent/<run>.sending.jsonl    those that are being sent, or were when their sender died

A run that MLflow could not even be told of has a name of its own, which begins with ``unsent-``;
its first entry (`opened`) says what run it is. Whoever writes holds the folder's lock for a moment,
whoever sends that of the run: an entry is neither lost between the two nor sent by two.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from retune.whole_files import replacing

Entry = dict[str, Any]

PREFIX = "unsent-"
_SENDING = ".sending"


def is_unsent(run_id: str) -> bool:
    """Tell the name of a run that MLflow does not know from one of MLflow's ids."""
    return run_id.startswith(PREFIX)


class UnsentEntries:
    """The entries that a store keeps for MLflow.

    Args:
        store_root: The store's folder.
    """

    def __init__(self, store_root: Path) -> None:
        self.folder = store_root.resolve() / "mlflow" / "unsent"

    def open_run(self, experiment: str, name: str, tags: Mapping[str, str]) -> str:
        """Write down that a run begins which MLflow cannot be told of.

        Args:
            experiment: Name of its experiment.
            name: Shown name.
            tags: Its first tags.

        Returns:
            Its name until MLflow knows it.

        Raises:
            OSError: The disk does not take it.
        """
        run_id = f"{PREFIX}{uuid.uuid4().hex}"
        opened = {"kind": "opened", "experiment": experiment, "name": name, "tags": dict(tags)}
        self.keep(run_id, opened)
        return run_id

    def keep(self, run_id: str, entry: Mapping[str, Any]) -> None:
        """Write an entry behind the others of its run, with the time in milliseconds since 1970.

        Args:
            run_id: MLflow's id of the run, or a name of `open_run`.
            entry: `kind` and the fields of that kind, all JSON.

        Raises:
            OSError: The disk does not take it.
        """
        path = self._path(run_id)
        with self._writing():
            # A run and a training below it begin within one millisecond.
            now = time.time_ns()
            kept = {**entry, "at": now // 1_000_000, "at_ns": now}
            line = json.dumps(kept, ensure_ascii=False)
            torn = path.is_file() and path.read_bytes()[-1:] != b"\n"
            with open(path, "a", encoding="utf-8", newline="\n") as file:
                file.write(f"\n{line}\n" if torn else f"{line}\n")

    def runs(self) -> list[str]:
        """Return the runs that something is kept of, in the order in which that began."""
        names = {path.name.partition(".")[0] for path in self.folder.glob("*.jsonl")}
        return sorted(names, key=lambda name: (self._begun(name), name))

    def entries(self, run_id: str) -> list[Entry]:
        """Return the entries of a run in their order; one that was cut short is left out."""
        return _parse(self._read(run_id, _SENDING) + self._read(run_id))

    @contextmanager
    def claim(self, run_id: str) -> Iterator[list[Entry] | None]:
        """Take the entries of a run, to send them; what is written meanwhile comes after them.

        Args:
            run_id: As in `keep`.

        Yields:
            The entries; None where another process sends them just now.

        Raises:
            OSError: The disk does not take it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{run_id}.lock"
        lock = FileLock(path)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield None
            return
        try:
            yield self._take(run_id)
        finally:
            # Before it is let go: who waits for it sees that it is no longer the file of that name.
            path.unlink(missing_ok=True)
            lock.release()

    def put_back(self, run_id: str, rest: Sequence[Entry]) -> None:
        """Leave of the entries that were taken those that are still to be sent; none ends them.

        Args:
            run_id: Claimed by the caller.
            rest: Entries in their order.

        Raises:
            OSError: The disk does not take it.
        """
        taken = self._path(run_id, _SENDING)
        if not rest:
            taken.unlink(missing_ok=True)
            return
        with replacing(taken) as part:
            text = "".join(f"{json.dumps(entry, ensure_ascii=False)}\n" for entry in rest)
            part.write_text(text, "utf-8")

    def _take(self, run_id: str) -> list[Entry]:
        path, taken = self._path(run_id), self._path(run_id, _SENDING)
        with self._writing():
            if path.is_file() and not taken.is_file():
                path.rename(taken)
            elif path.is_file():
                # Whoever sent these died: what is in both files after another death is sent again,
                # in the same order, which changes nothing.
                both = self._read(run_id, _SENDING) + self._read(run_id)
                with replacing(taken) as part:
                    part.write_text(both, "utf-8")
                path.unlink()
            return _parse(self._read(run_id, _SENDING))

    def _begun(self, run_id: str) -> int:
        """Return when something was first kept of a run, in nanoseconds since 1970."""
        first = next(iter(self.entries(run_id)), {})
        return int(first.get("at_ns", first.get("at", 0) * 1_000_000))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):
            yield

    def _path(self, run_id: str, state: str = "") -> Path:
        return self.folder / f"{run_id}{state}.jsonl"

    def _read(self, run_id: str, state: str = "") -> str:
        try:
            text = self._path(run_id, state).read_text("utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        return text if text.endswith("\n") else f"{text}\n"


def _parse(text: str) -> list[Entry]:
    entries = []
    for line in text.split("\n"):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue  # A full disk, or a kill, cut it short.
        if isinstance(entry, dict) and isinstance(entry.get("kind"), str):
            entries.append(entry)
    return entries
