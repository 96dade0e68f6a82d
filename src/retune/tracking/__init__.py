"""MLflow: what a run says. Importing this loads neither mlflow nor torch."""

from retune.tracking.addresses import (
    Tracking,
    choose_tracking,
    default_artifact_root,
    default_uri,
    shown_uri,
)
from retune.tracking.connecting import (
    check_tracking,
    connect,
    has_database,
    open_experiment,
    unreachable,
)
from retune.tracking.entries import flatten_params
from retune.tracking.mirror import Mirror, RunStatus
from retune.tracking.sending import STAGE_KEY_TAG

__all__ = [
    "STAGE_KEY_TAG",
    "Mirror",
    "RunStatus",
    "Tracking",
    "check_tracking",
    "choose_tracking",
    "connect",
    "default_artifact_root",
    "default_uri",
    "flatten_params",
    "has_database",
    "open_experiment",
    "shown_uri",
    "unreachable",
]
