"""`retune doctor` on MLflow: the server that a run without tracking.uri would write to."""

from __future__ import annotations

import os

import pytest

from retune.cli import doctor
from retune.errors import ServiceError
from tests.waiting import closed_port


def test_a_tracking_server_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens there: the finding names the variable, as a run would."""
    with closed_port() as port:
        monkeypatch.setitem(os.environ, "MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        with pytest.raises(ServiceError, match="correct MLFLOW_TRACKING_URI") as caught:
            doctor._mlflow()
    assert str(port) in str(caught.value)


def test_a_finding_shows_no_password() -> None:
    """Neither of a server that answers nor of one that does not."""
    address = "http://ana:segredo@prefect.test/api"

    def fail() -> str:
        raise ServiceError(f"404 for url {address}")

    for check in (lambda: f"answers at {address}", fail):
        found, _ = doctor._attempt(check)
        assert "segredo" not in found and "prefect.test/api" in found


def test_without_one_a_new_database_is_opened() -> None:
    """In a folder that is gone afterwards."""
    assert doctor._mlflow().startswith("opens a new database in ")
