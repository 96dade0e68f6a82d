"""What is trained and in which form it is released, by the recipe."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retune.errors import DataError
from tasks.modeling import check_method, make_release, train_model
from tests.tasks.conftest import PENDING, MakeJob, labels_of, locate, with_rows


def test_a_head_makes_the_training_one_of_classes(make_job: MakeJob) -> None:
    """Without one, an adapter learns to write."""
    writer, classifier = make_job(), make_job(locate(format_name="text_label"), head={})
    train_model(writer, PENDING)
    train_model(classifier, PENDING)
    assert labels_of(writer) == ["train_adapter"]
    assert labels_of(classifier) == ["train_classifier"]
    assert "labels" in classifier.run.lines[0].reason


@pytest.mark.parametrize(
    ("method", "stage"), [("lora", "merge_adapter"), ("prompt", "bundle_adapter")]
)
def test_what_cannot_be_merged_is_bundled(make_job: MakeJob, method: str, stage: str) -> None:
    """By the recipe, so that a plan knows before anything is trained."""
    job = make_job(method={"kind": method})
    make_release(job, PENDING)
    assert labels_of(job) == [stage]


def test_a_training_that_cannot_be_watched_is_refused_before_the_method(
    make_job: MakeJob, tmp_path: Path
) -> None:
    """Evaluations need validation rows; a plan that does not know them goes on."""
    (tmp_path / "validation").mkdir()
    pq.write_table(pa.table({"row_id": []}), tmp_path / "validation" / "rows.parquet")
    job = make_job()
    check_method(job)
    with pytest.raises(DataError, match="validation side has no rows"):
        check_method(with_rows(job, tmp_path))
    assert labels_of(job) == ["check_method"]
