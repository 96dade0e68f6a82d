"""Sending to MLflow what could not be sent when it happened: in order, and each entry once.

Sending an entry twice changes nothing (`retune.tracking.entries`), so one whose sender was killed
is sent again. A run that MLflow never heard of is made then, with the time at which it began, and
found again by a tag where it was made and its sender died.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from retune.tracking.connecting import open_experiment
from retune.tracking.entries import Step, apply_entry
from retune.tracking.unsent import UnsentEntries, is_unsent

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

STAGE_KEY_TAG = "retune.stage_key"
PARENT_TAG = "mlflow.parentRunId"
UNSENT_TAG = "retune.unsent_id"
"""Of a run that was made later: what it was called until then."""

_REFUSALS = {
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "PERMISSION_DENIED",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
}
"""Error codes of a server that is well and does not want this one call."""


@dataclass(frozen=True)
class SentRun:
    """What became of the entries of one run.

    Attributes:
        kept_as: The run, as its entries were kept.
        run_id: MLflow's id; None where it has no such run.
        kinds: How many entries of each kind were sent.
        refused: What MLflow did not take of them, or is no longer there to be sent.
        left: Why entries stay; empty where none does.
    """

    kept_as: str
    run_id: str | None = None
    kinds: Mapping[str, int] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    left: str = ""


def is_refusal(error: Exception) -> bool:
    """Tell what MLflow will never take, or is gone, from a server that is away."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        return error.error_code in _REFUSALS
    return isinstance(error, FileNotFoundError)


def find_by_tag(client: MlflowClient, experiments: list[str], tag: str, value: str) -> Run | None:
    """Return the first run of some experiments with a tag of this value, or None."""
    found = client.search_runs(
        experiments,
        filter_string=f"tags.`{tag}` = '{value}'",
        max_results=1,
        order_by=["attributes.start_time ASC"],
    )
    return found[0] if found else None


def send_unsent(
    client: MlflowClient,
    unsent: UnsentEntries,
    artifact_root: str,
    logged: dict[str, set[Step]] | None = None,
) -> Iterator[SentRun]:
    """Send what is kept, run by run in the order in which that began.

    Args:
        client: From `connect`.
        unsent: What is kept.
        artifact_root: Folder of artifacts for experiments that are made; a server has its own.
        logged: Steps that runs are known to have, as `apply_entry` takes them.

    Yields:
        What became of each run's entries.

    Raises:
        MlflowException: MLflow does not answer; what was sent until then is not kept any more.
        OSError: The store cannot be written.
    """
    sender = _Sender(client, unsent, artifact_root, {} if logged is None else logged)
    for run_id in unsent.runs():
        yield sender.send(run_id)


class _Sender:
    def __init__(
        self,
        client: MlflowClient,
        unsent: UnsentEntries,
        artifact_root: str,
        logged: dict[str, set[Step]],
    ) -> None:
        self._client, self._unsent = client, unsent
        self._artifact_root, self._logged = artifact_root, logged

    def send(self, kept_as: str) -> SentRun:
        """Send the entries of one run."""
        with self._unsent.claim(kept_as) as entries:
            if entries is None:
                return SentRun(kept_as, left="another process sends them just now")
            run_id = self._resolve(kept_as)
            if run_id is None:
                return SentRun(kept_as, left=self._say_unknown(kept_as))
            return self._send_entries(kept_as, run_id, entries)

    def _send_entries(self, kept_as: str, run_id: str, entries: list[dict[str, Any]]) -> SentRun:
        kinds: Counter[str] = Counter()
        refused: list[str] = []
        for number, entry in enumerate(entries):
            try:
                apply_entry(self._client, run_id, entry, self._logged)
            except Exception as error:
                if not is_refusal(error):
                    self._unsent.put_back(kept_as, entries[number:])
                    raise
                refused.append(f"{entry['kind']}: {str(error).splitlines()[0]:.200}")
            else:
                kinds[entry["kind"]] += entry["kind"] != "opened"
        self._unsent.put_back(kept_as, ())
        return SentRun(kept_as, run_id, dict(+kinds), tuple(refused))

    def _resolve(self, kept_as: str) -> str | None:
        """Return MLflow's id of a run, which is made where MLflow was never told of it."""
        if not is_unsent(kept_as):
            return kept_as if self._exists(kept_as) else None
        opened = next(
            (each for each in self._unsent.entries(kept_as) if each["kind"] == "opened"), None
        )
        if opened is None:
            experiments = [each.experiment_id for each in self._client.search_experiments()]
            found = find_by_tag(self._client, experiments, UNSENT_TAG, kept_as)
            return str(found.info.run_id) if found else None
        experiment = open_experiment(self._client, opened["experiment"], self._artifact_root)
        tags = dict(opened["tags"])
        tag = STAGE_KEY_TAG if STAGE_KEY_TAG in tags else UNSENT_TAG
        tags[UNSENT_TAG] = kept_as
        found = find_by_tag(self._client, [experiment], tag, tags[tag])
        if found is not None:
            return str(found.info.run_id)
        if is_unsent(tags.get(PARENT_TAG, "")):
            tags[PARENT_TAG] = self._resolve(tags[PARENT_TAG]) or tags[PARENT_TAG]
        made = self._client.create_run(
            experiment, start_time=opened.get("at"), tags=tags, run_name=opened["name"]
        )
        return str(made.info.run_id)

    def _exists(self, run_id: str) -> bool:
        try:
            self._client.get_run(run_id)
        except Exception as error:
            if not is_refusal(error):
                raise
            return False
        return True

    def _say_unknown(self, kept_as: str) -> str:
        return (
            "MLflow has no such run: it was deleted, or stands in another MLflow. Name that one, "
            f"or delete {self._unsent.folder / kept_as}*.jsonl to give them up"
        )
