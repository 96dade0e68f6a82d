"""Runs of two machines on one bucket: each stage is computed once, and both end with the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from tests.flows.conftest import environment, last_json, retune, write_project
from tests.preloading import start_command
from tests.s3_server import S3Server
from tests.serving import copy_tracking_database
from tests.waiting import GUARD_SECONDS

pytestmark = [pytest.mark.slow, pytest.mark.service]


def write_machine(folder: Path, address: str, tracking: Path | None) -> Path:
    """Write the project as it lies on one machine, with a cache there."""
    recipe = write_project(folder)
    shutil.rmtree(recipe.parent / ".retune")
    body = yaml.safe_load(recipe.read_text("utf-8"))
    body["store"] = {"folder": address, "cache": "copies"}
    body["tracking"] = {"uri": f"sqlite:///{tracking}"} if tracking else {}
    # What is looked at here is who computes what.
    body["training"]["max_steps"] = 2
    del body["probes"]
    recipe.write_text(yaml.safe_dump(body), "utf-8")
    return recipe


def test_two_machines_compute_each_stage_once(s3: S3Server, tmp_path: Path) -> None:
    """Both start at once; what one computes, the other takes. Then the bucket is gone."""
    copy_tracking_database(tmp_path / "served")
    database = tmp_path / "served" / "mlflow" / "mlflow.db"
    address = f"s3://{s3.new_bucket()}/team"
    recipes = [write_machine(tmp_path / name, address, database) for name in "ab"]
    both = [
        start_command(
            "retune.cli",
            ["run", "recipe.yaml", "--json"],
            folder=recipe.parent,
            environment=environment(recipe.parent),
        )
        for recipe in recipes
    ]
    stages = [last_json(each.finish(GUARD_SECONDS))["stages"] for each in both]
    keys = [[(each["name"], each["key"]) for each in lines] for lines in stages]
    assert keys[0] == keys[1]
    ran = [
        {key for key, each in zip(keys[i], stages[i], strict=True) if each["state"] == "ran"}
        for i in (0, 1)
    ]
    assert not ran[0] & ran[1]
    assert ran[0] | ran[1] == set(keys[0])

    with s3.away():
        gone = retune(recipes[0])
    assert gone.returncode == 7, gone.stderr
    assert "does not answer" in gone.stderr and "Traceback" not in gone.stderr


def test_a_shared_store_asks_for_a_shared_registry(s3: S3Server, tmp_path: Path) -> None:
    """Said before anything is computed or made, with exit code 2."""
    done = retune(write_machine(tmp_path / "a", f"s3://{s3.new_bucket()}/x", None))
    assert done.returncode == 2, done.stderr
    assert "Machines that share a store need one registry" in " ".join(done.stderr.split())
    assert not (tmp_path / "a" / "copies").exists()
