"""What a run can be told, one kind of entry at a time; sending one twice changes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retune.hard_links import is_weights, link_or_copy
from retune.recipe.credentials import masked

if TYPE_CHECKING:
    from mlflow import MlflowClient

Step = tuple[str, int]
"""Name and step of a metric: within a run it is logged once."""

_BATCH = 100
"""MLflow takes 1,000 metrics but only 100 params or tags at once."""
_LONGEST_PARAM = 500
_DATASET_DIGEST_LENGTH = 36


def apply_entry(
    client: MlflowClient, run_id: str, entry: Mapping[str, Any], logged: dict[str, set[Step]]
) -> None:
    """Send one entry.

    Args:
        client: From `connect`.
        run_id: The run.
        entry: `kind` and the fields of that kind, all JSON.
        logged: Steps that each run is known to have; read from MLflow at a run's first metric.

    Raises:
        MlflowException: MLflow does not answer, or refuses the entry.
        OSError: A file cannot be read or stored.
    """
    match entry["kind"]:
        case "metrics":
            _log_points(client, run_id, entry["points"], logged)
        case "params":
            _log_params(client, run_id, entry["params"])
        case "tags":
            _log_tags(client, run_id, entry["tags"])
        case "artifact":
            _log_path(client, run_id, Path(entry["path"]), entry["folder"])
        case "text":
            client.log_text(run_id, entry["text"], entry["name"])
        case "dataset":
            _log_dataset(client, run_id, entry)
        case "status":
            # One that is sent later ended when it was kept.
            client.set_terminated(run_id, status=entry["status"], end_time=entry.get("at"))


def flatten_params(mapping: Mapping[str, Any]) -> dict[str, str]:
    """Write a nested mapping as dotted names and short texts.

    Args:
        mapping: A recipe as JSON-able values.

    Returns:
        ``{"training.learning_rate": "0.002"}``; texts over 500 characters are cut, and what looks
        like a secret is masked.
    """
    flat: dict[str, str] = {}
    for name, value in mapping.items():
        if isinstance(value, Mapping) and value:
            flat |= {f"{name}.{inner}": text for inner, text in flatten_params(value).items()}
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            flat[name] = _shortened(masked(text))
    return flat


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_PARAM else f"{text[: _LONGEST_PARAM - 1]}…"


def _log_points(
    client: MlflowClient,
    run_id: str,
    points: Sequence[Mapping[str, Any]],
    logged: dict[str, set[Step]],
) -> None:
    from mlflow.entities import Metric

    if run_id not in logged:
        logged[run_id] = _logged_steps(client, run_id)
    new = {
        (point["name"], point["step"]): Metric(
            point["name"], point["value"], point["timestamp"], point["step"]
        )
        for point in points
        if (point["name"], point["step"]) not in logged[run_id]
    }
    metrics = list(new.values())
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + _BATCH])
    logged[run_id] |= set(new)


def _logged_steps(client: MlflowClient, run_id: str) -> set[Step]:
    names = client.get_run(run_id).data.metrics
    return {
        (name, point.step) for name in names for point in client.get_metric_history(run_id, name)
    }


def _log_params(client: MlflowClient, run_id: str, params: Mapping[str, str]) -> None:
    from mlflow.entities import Param

    # MLflow refuses a whole batch when one param of it has another value already.
    known = client.get_run(run_id).data.params
    new = [Param(name, text) for name, text in params.items() if name not in known]
    for start in range(0, len(new), _BATCH):
        client.log_batch(run_id, params=new[start : start + _BATCH])


def _log_tags(client: MlflowClient, run_id: str, tags: Mapping[str, str]) -> None:
    from mlflow.entities import RunTag

    all_tags = [RunTag(name, text) for name, text in tags.items()]
    for start in range(0, len(all_tags), _BATCH):
        client.log_batch(run_id, tags=all_tags[start : start + _BATCH])


def _log_path(client: MlflowClient, run_id: str, path: Path, folder: str | None) -> None:
    if path.is_dir():
        client.log_artifacts(run_id, str(path), folder)
    elif is_weights(path) and (local := _local_artifacts(client, run_id)):
        # An adapter's weights lie in the store, on the same disk: once is enough.
        target = local / (folder or "") / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        link_or_copy(path, target)
    else:
        client.log_artifact(run_id, str(path), folder)


def _local_artifacts(client: MlflowClient, run_id: str) -> Path | None:
    """Return the folder of a run's artifacts; None where they are sent to a server or a bucket."""
    from mlflow.utils.file_utils import local_file_uri_to_path
    from mlflow.utils.uri import is_local_uri

    address = client.get_run(run_id).info.artifact_uri
    return Path(local_file_uri_to_path(address)) if is_local_uri(address) else None


def _log_dataset(client: MlflowClient, run_id: str, entry: Mapping[str, Any]) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        name=entry["name"],
        digest=entry["digest"][:_DATASET_DIGEST_LENGTH],
        source_type="retune",
        source=json.dumps({"sha256": entry["digest"]}),
        profile=json.dumps({"num_rows": entry["rows"], "sha256": entry["digest"]}),
    )
    tags = [InputTag("mlflow.data.context", entry["context"])] if entry["context"] else []
    client.log_inputs(run_id, [DatasetInput(dataset, tags)])
