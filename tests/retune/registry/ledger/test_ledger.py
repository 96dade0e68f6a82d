"""The ledger: one chain of lines in two places, whole or an error that names the line."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from retune.errors import ArtifactError, ServiceError
from retune.registry.ledger.ledger import Ledger, say_now
from retune.registry.records import LedgerEntry
from retune.tracking import connect, default_uri
from tests.serving import copy_tracking_database


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("store")
    copy_tracking_database(folder)
    return default_uri(folder)


@pytest.fixture
def ledger(uri: str, name: str, tmp_path: Path) -> Ledger:
    return Ledger(uri, name, tmp_path)


def entry(name: str, reason: str = "because") -> LedgerEntry:
    return LedgerEntry(
        number=0, at=say_now(), kind="skipped", model_name=name, actor="gate", reason=reason
    )


def test_lines_are_numbered_and_each_holds_the_digest_of_the_one_before(
    ledger: Ledger, name: str
) -> None:
    first, second = ledger.append(entry(name)), ledger.append(entry(name, "again"))

    assert ledger.entries() == (first, second)
    assert (first.number, first.previous, second.number) == (1, "", 2)
    assert second.previous == first.digest
    # The digest by its definition, without the code under test.
    content = {key: value for key, value in second.model_dump().items() if key != "digest"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert second.digest == hashlib.sha256(text.encode()).hexdigest()


def test_a_model_without_a_ledger_has_no_lines_and_reading_makes_nothing(
    ledger: Ledger, uri: str, name: str, tmp_path: Path
) -> None:
    assert ledger.entries() == ()

    assert not list(tmp_path.iterdir())
    assert not connect(uri).search_registered_models(f"name = '{name}'")


def test_another_machine_reads_the_same_lines_and_a_lost_file_comes_back(
    ledger: Ledger, uri: str, name: str, tmp_path: Path
) -> None:
    written = [ledger.append(entry(name, reason)) for reason in ("one", "two", "three")]
    file = tmp_path / f"{name}.jsonl"
    before = file.read_bytes()

    assert Ledger(uri, name, tmp_path / "elsewhere").entries() == tuple(written)

    file.unlink()
    assert ledger.entries() == tuple(written)
    assert file.read_bytes() == before


def test_a_torn_line_is_put_aside_and_written_anew(
    ledger: Ledger, name: str, tmp_path: Path
) -> None:
    written = (ledger.append(entry(name)), ledger.append(entry(name)))
    file = tmp_path / f"{name}.jsonl"
    before = file.read_bytes()
    file.write_bytes(before[:-30])

    assert ledger.entries() == written

    assert file.read_bytes() == before
    assert file.with_suffix(".jsonl.damaged").read_bytes() == before[:-30]


def test_a_line_that_only_the_file_has_comes_back_in_mlflow(
    ledger: Ledger, uri: str, name: str, tmp_path: Path
) -> None:
    written = (ledger.append(entry(name)), ledger.append(entry(name)))
    connect(uri).delete_registered_model_tag(name, "retune.ledger.000001")

    assert ledger.entries() == written

    assert Ledger(uri, name, tmp_path / "elsewhere").entries() == written


def test_a_changed_line_is_an_error_that_names_it_and_the_way_back(
    ledger: Ledger, name: str, tmp_path: Path
) -> None:
    written = tuple(ledger.append(entry(name, reason)) for reason in ("one", "two", "three"))
    file = tmp_path / f"{name}.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text(lines[0] + lines[1].replace("two", "2") + lines[2])

    with pytest.raises(ArtifactError, match=r"line 2 of .*\.jsonl was changed.*take the line out"):
        ledger.entries()
    with pytest.raises(ArtifactError, match="line 2"):
        ledger.append(entry(name))

    file.write_text(lines[0] + lines[2])
    assert ledger.entries() == written


def test_a_line_taken_out_of_both_places_is_an_error_that_names_it(
    ledger: Ledger, uri: str, name: str, tmp_path: Path
) -> None:
    for reason in ("one", "two", "three"):
        ledger.append(entry(name, reason))
    file = tmp_path / f"{name}.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text(lines[0] + lines[2])
    connect(uri).delete_registered_model_tag(name, "retune.ledger.000002")

    with pytest.raises(ArtifactError, match="line 2 is missing"):
        ledger.entries()


def test_two_whole_histories_are_an_error(
    ledger: Ledger, uri: str, name: str, tmp_path: Path
) -> None:
    """A chain forged from its first line on holds by itself; the other place gives it away."""
    ledger.append(entry(name, "what was"))
    file = tmp_path / f"{name}.jsonl"
    kept = file.read_bytes()
    other = Ledger(uri, f"{name}-other", tmp_path)
    other.append(entry(name, "what should have been"))
    file.write_bytes((tmp_path / f"{name}-other.jsonl").read_bytes())

    with pytest.raises(ArtifactError, match=r"line 1 says one thing in .* two histories"):
        ledger.entries()

    file.write_bytes(kept)
    assert ledger.entries()[0].reason == "what was"


@pytest.mark.parametrize(
    "reason",
    ["x" * 20_000, 'é\u2028ß\n{"number": 7}', "x" * 4500],
    ids=["long", "letters", "full"],
)
def test_a_reason_of_any_length_and_any_letters_is_kept(
    ledger: Ledger, uri: str, name: str, tmp_path: Path, reason: str
) -> None:
    line = ledger.append(entry(name, reason))

    assert ledger.entries()[-1] == line
    assert Ledger(uri, name, tmp_path / "elsewhere").entries()[-1] == line
    tags = connect(uri).get_registered_model(name).tags
    # What MLflow's databases other than SQLite hold in a tag.
    assert max(map(len, tags.values())) <= 5000


def test_lines_of_several_processes_are_all_kept_in_one_chain(
    ledger: Ledger, uri: str, name: str, tmp_path: Path
) -> None:
    code = (
        "import sys; from pathlib import Path; from retune.registry.ledger.ledger import Ledger\n"
        "from retune.registry.records import LedgerEntry\n"
        "uri, name, folder, who = sys.argv[1:]\n"
        "for number in range(5):\n"
        "    Ledger(uri, name, Path(folder)).append(LedgerEntry(number=0, at='', kind='skipped',"
        " model_name=name, actor=who, reason=str(number)))\n"
    )
    command = [sys.executable, "-c", code, uri, name]
    # One shares the file, the other is a machine of its own: what both see is MLflow.
    running = [
        subprocess.Popen([*command, str(folder), who])
        for who, folder in (("one", tmp_path), ("two", tmp_path / "elsewhere"))
    ]
    assert [process.wait() for process in running] == [0, 0]

    found = [(line.actor, line.reason) for line in ledger.entries()]
    assert sorted(found) == [(who, str(each)) for who in ("one", "two") for each in range(5)]


def test_without_mlflow_nothing_is_written(name: str, tmp_path: Path) -> None:
    away = Ledger("http://127.0.0.1:1", name, tmp_path)

    with pytest.raises(ServiceError):
        away.append(entry(name))
    with pytest.raises(ServiceError):
        away.entries()

    assert not list(tmp_path.iterdir())
