"""What became of a version stands in the run that made it."""

from __future__ import annotations

from pathlib import Path

from retune.registry.versions.outcome_tags import tag_run
from retune.tracking import connect, default_uri
from tests.serving import copy_tracking_database


def test_the_run_of_a_version_is_tagged(tmp_path: Path) -> None:
    """A version that was registered without a run, or is gone, has none to tag."""
    copy_tracking_database(tmp_path)
    uri = default_uri(tmp_path)
    client = connect(uri)
    run = client.create_run(client.create_experiment("tiny", str(tmp_path / "files")))
    client.create_registered_model("tiny")
    client.create_model_version("tiny", str(tmp_path), run.info.run_id)
    client.create_model_version("tiny", str(tmp_path))

    for version in (1, 2, 3):
        tag_run(uri, "tiny", version, {"retune.outcome": "promoted"})

    assert client.get_run(run.info.run_id).data.tags["retune.outcome"] == "promoted"
