"""Ending in MLflow what Prefect knows to have ended: a killed process cannot say so itself."""

from __future__ import annotations

from uuid import UUID

from httpx import HTTPError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.runtime import flow_run

from retune.registry.mlflow_calls import as_service_error
from retune.tracking import RunStatus
from retune.tracking.left_runs import end_left, list_running
from tasks.runs.run import RecipeRun


def end_left_runs(run: RecipeRun) -> None:
    """End the runs in the recipe's experiment whose flow run has ended, or is this very one.

    Args:
        run: A run of the recipe, before it has a run of its own in MLflow.

    Raises:
        ServiceError: MLflow does not answer.
    """
    uri = run.context["tracking_uri"]
    with as_service_error(uri):
        running = list_running(uri, run.context["experiment"])
        if not running:
            return
        with get_client(sync_client=True) as client:
            for run_id, flow_run_id in running.items():
                status = _ended_as(client, flow_run_id)
                if status is not None:
                    end_left(uri, run_id, status)
                    run.watcher.note(f"run {run_id} in MLflow was left running: it is {status} now")


def _ended_as(client: SyncPrefectClient, flow_run_id: str) -> RunStatus | None:
    """Return how a flow run ended; None where it goes on, or Prefect does not know it."""
    if flow_run_id == str(flow_run.id):
        # Of an earlier try of this flow run, which Prefect started again under the same id.
        return "KILLED"
    try:
        state = client.read_flow_run(UUID(flow_run_id)).state
    except (ObjectNotFound, PrefectException, HTTPError, ValueError):
        # Another server's, perhaps: of what is not known nothing is said.
        return None
    if state is None or not state.is_final():
        return None
    if state.is_completed():
        # MLflow was away when it ended.
        return "FINISHED"
    return "FAILED" if state.is_failed() else "KILLED"
