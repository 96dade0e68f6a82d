"""Runs that MLflow shows as running although whoever wrote them may be gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from retune.tracking.connecting import connect
from retune.tracking.mirror import RunStatus

if TYPE_CHECKING:
    from mlflow.entities import Run

FLOW_RUN_TAG = "prefect.flow_run_id"
"""Of a run: the flow run that writes it."""
_TAG = f"tags.`{FLOW_RUN_TAG}`"


def list_running(uri: str, experiment: str) -> dict[str, str]:
    """Return the flow run that writes each running run, by the run's id.

    Args:
        uri: Address of MLflow.
        experiment: Name of the experiment; need not exist.
    """
    runs = _search(uri, experiment, f"attributes.status = 'RUNNING' and {_TAG} LIKE '%'")
    return {run.info.run_id: run.data.tags[FLOW_RUN_TAG] for run in runs}


def has_run_of(uri: str, experiment: str, flow_run: str) -> bool:
    """Tell whether a flow run has written a run, in this try or an earlier one.

    Args:
        uri: Address of MLflow.
        experiment: Name of the experiment; need not exist.
        flow_run: Id of the flow run.
    """
    return bool(_search(uri, experiment, f"{_TAG} = '{flow_run}'"))


def _search(uri: str, experiment: str, asked: str) -> Sequence[Run]:
    client = connect(uri)
    found = client.get_experiment_by_name(experiment)
    return client.search_runs([found.experiment_id], filter_string=asked) if found else []


def end_left(uri: str, run_id: str, status: RunStatus) -> None:
    """End a run that was left running.

    Args:
        uri: Address of MLflow.
        run_id: The run.
        status: How it ended.
    """
    connect(uri).set_terminated(run_id, status)
