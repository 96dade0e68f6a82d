"""A store on S3, against a real server: complete or absent, computed once, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import s3fs

from retune.errors import ArtifactError, ConfigError, ServiceError
from retune.spine import leases, remote_objects
from retune.spine.leases import LeaseNote
from retune.spine.lookup import look_up
from retune.spine.opening import open_store
from retune.spine.shared_store import SharedStore
from retune.spine.stage import SilentReporter, StageRequest, key_parts, run_stage
from retune.spine.store import MANIFEST
from retune.spine.verifying import read_through
from tests.retune.tiny_stages import Inputs, Made, settings_of, tiny
from tests.retune.tiny_stages import request as tiny_request
from tests.s3_server import S3Server
from tests.waiting import GUARD_SECONDS, wait_until

REPOSITORY = Path(__file__).parents[3]
MACHINE = """
import sys
from pathlib import Path
from retune.spine import leases, remote_objects
from retune.spine.stage import SilentReporter, run_stage
from tests.retune.tiny_stages import request, tiny
class Told(SilentReporter):
    def log(self, message): print(message, flush=True)
leases.LEASE_SECONDS, remote_objects.SETTLE_SECONDS = 2.0, 0.2
address, cache, act, place = sys.argv[1:]
asked = request(address, act=act, place=place).model_copy(update={"cache": Path(cache)})
run_stage(tiny, asked, Told())
"""


class Told(SilentReporter):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, message: str) -> None:
        """Remember a line."""
        self.lines.append(message)


@pytest.fixture
def address(s3: S3Server) -> str:
    """Of an empty bucket, and a folder in it."""
    return f"s3://{s3.new_bucket()}/models"


@pytest.fixture(autouse=True)
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for a minute elsewhere waits for two seconds here."""
    monkeypatch.setattr(leases, "LEASE_SECONDS", 2.0)
    monkeypatch.setattr(remote_objects, "SETTLE_SECONDS", 0.1)


def machine(address: str, folder: Path) -> SharedStore:
    """Open the store as a machine would whose caches are in a folder, afresh."""
    return SharedStore(address, folder)


def asked(address: str, folder: Path, **config: object) -> StageRequest:
    """Ask for the tiny stage as a run on that machine would."""
    # A machine that was not there before: what this process knew of the store, it forgets.
    from retune.spine import opening

    opening._SHARED.clear()
    return tiny_request(address, **config).model_copy(update={"cache": folder})


def test_an_artifact_of_one_machine_is_reused_by_another(address: str, tmp_path: Path) -> None:
    """The second machine computes nothing, and has the files in its own cache."""
    first = run_stage(tiny, asked(address, tmp_path / "a", number=7))
    second = run_stage(tiny, asked(address, tmp_path / "b", number=7, act="work"))
    assert (first.number, second.number) == (7, 7)
    assert second.folder.is_relative_to(tmp_path / "b")
    assert (second.folder / "sub" / "number.json").read_text() == "7"
    assert not list((tmp_path / "b").rglob("starts.txt"))
    [note] = (tmp_path / "b").rglob("manifest.json")
    [sealed] = (tmp_path / "a").rglob("manifest.json")
    assert note.read_bytes() == sealed.read_bytes()


def test_reading_through_reads_what_lies_at_the_address(
    s3: S3Server, address: str, tmp_path: Path
) -> None:
    """A changed object shows to a machine whose cache is whole, and to one that has nothing yet."""
    key = run_stage(tiny, asked(address, tmp_path / "a")).folder.name
    here, there = machine(address, tmp_path / "a"), machine(address, tmp_path / "b")
    assert here.artifacts() == there.artifacts() == [("tiny", key)]
    assert (read_through(there, "tiny", key).damage, there.artifacts("other")) == (None, [])
    bucket, files = address.split("/")[2], here.manifest("tiny", key).files
    changed = f"models/tiny/{key}/{files['sub/number.json'][:16]}/sub/number.json"
    s3.client().put_object(Bucket=bucket, Key=changed, Body=b"6")
    assert here.damage("tiny", key) is None
    for store in (here, there):
        assert (
            read_through(store, "tiny", key).damage == "artifact damaged: sub/number.json changed"
        )


def test_files_of_one_machine_are_those_of_all(address: str, tmp_path: Path) -> None:
    """Each gets what the other has; a file that is being written stays where it is."""
    here, there = machine(address, tmp_path / "a"), machine(address, tmp_path / "b")
    for store, name in ((here, "first.npy"), (here, ".third.npy.1.part"), (there, "second.npy")):
        (store.root / "ledger" / "rows").mkdir(parents=True, exist_ok=True)
        (store.root / "ledger" / "rows" / name).write_text(name, "utf-8")
    for store in (here, there, here):
        store.share_files("ledger/rows")
    assert sorted(here.objects.list("ledger/rows")) == ["first.npy", "second.npy"]
    for store in (here, there):
        for name in ("first.npy", "second.npy"):
            assert (store.root / "ledger" / "rows" / name).read_text("utf-8") == name


def test_the_manifest_is_written_last(s3: S3Server, address: str, tmp_path: Path) -> None:
    """A reader that sees it sees all: every file was put before."""
    s3.requests.clear()
    run_stage(tiny, asked(address, tmp_path))
    put = [path.rpartition("/")[2] for method, path in s3.requests if method == "PUT"]
    artifact = [name for name in put if name in (MANIFEST, "number.json")]
    assert artifact == ["number.json", MANIFEST]


def test_files_without_a_manifest_are_no_artifact(
    s3: S3Server, address: str, tmp_path: Path
) -> None:
    """A machine that died while it sent leaves nothing that another one takes."""
    key = run_stage(tiny, asked(address, tmp_path / "a")).folder.name
    bucket = address.split("/")[2]
    s3.client().delete_object(Bucket=bucket, Key=f"models/tiny/{key}/{MANIFEST}")
    assert machine(address, tmp_path / "b").damage("tiny", key) == "artifact deleted"
    # The bucket is the truth: what a person deletes there is not brought back from a cache.
    assert machine(address, tmp_path / "a").damage("tiny", key) == "artifact deleted"


@pytest.mark.parametrize("spoil", ["changed", "missing"])
def test_a_damaged_object_heals(s3: S3Server, address: str, tmp_path: Path, spoil: str) -> None:
    """It is named, computed anew by the next run, and whole for a third machine."""
    key = run_stage(tiny, asked(address, tmp_path / "a")).folder.name
    bucket = address.split("/")[2]
    [name] = [each for each in s3.names(bucket) if each.endswith("number.json")]
    if spoil == "changed":
        s3.client().put_object(Bucket=bucket, Key=name, Body=b"2")
    else:
        s3.client().delete_object(Bucket=bucket, Key=name)
    other = machine(address, tmp_path / "b")
    assert other.damage("tiny", key) == f"artifact damaged: sub/number.json {spoil}"
    with pytest.raises(ArtifactError, match=f"number.json {spoil}"):
        other.load("tiny", key, Made)
    assert run_stage(tiny, asked(address, tmp_path / "b")).number == 1
    assert machine(address, tmp_path / "c").load("tiny", key, Made).number == 1


def test_a_damaged_cache_is_filled_again(address: str, tmp_path: Path) -> None:
    """A cache is never trusted unread: the changed file is brought again, nothing is computed."""
    record = run_stage(tiny, asked(address, tmp_path))
    path = record.folder / "sub" / "number.json"
    path.write_text("9")
    assert run_stage(tiny, asked(address, tmp_path, act="work")) == record
    assert path.read_text() == "1"


def test_a_manifest_that_names_files_outside_is_refused(
    s3: S3Server, address: str, tmp_path: Path
) -> None:
    """Whoever may write to the bucket must not write anywhere else on this machine."""
    key = run_stage(tiny, asked(address, tmp_path / "a")).folder.name
    manifest = machine(address, tmp_path / "a").manifest("tiny", key)
    changed = manifest.model_copy(update={"files": {"../../out.txt": "0" * 64}})
    changed = changed.model_copy(update={"checksum": changed.computed_checksum()})
    bucket = address.split("/")[2]
    place = f"models/tiny/{key}/{MANIFEST}"
    s3.client().put_object(Bucket=bucket, Key=place, Body=changed.model_dump_json().encode())
    found = machine(address, tmp_path / "b").damage("tiny", key)
    assert found == "artifact damaged: manifest.json names files outside of it"


def start(address: str, cache: Path, act: str, place: Path) -> subprocess.Popen[str]:
    """Run the stage as another machine: a process with a cache of its own."""
    command = [sys.executable, "-c", MACHINE, address, str(cache), act, str(place)]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("conditional", [True, False])
def test_two_machines_compute_a_key_once(
    s3: S3Server, address: str, tmp_path: Path, conditional: bool
) -> None:
    """One computes; the other waits for it, says so, and takes it."""
    place = tmp_path / "computed.txt"
    with nullcontext() if conditional else s3.without_conditions():
        first = start(address, tmp_path / "a", "held", place)
        wait_until(place.exists, what="the first one's start")
        second = start(address, tmp_path / "b", "held", place)
        assert second.stdout is not None
        assert "which computes it" in second.stdout.readline()
        place.with_suffix(".enough").touch()
        for each in (first, second):
            each.communicate(timeout=GUARD_SECONDS)
    assert (first.returncode, second.returncode) == (0, 0)
    assert len(place.read_text().splitlines()) == 1
    assert not [each for each in s3.names(address.split("/")[2]) if "leases" in each]


def test_a_dead_holders_lease_ends(address: str, tmp_path: Path) -> None:
    """A machine that was switched off is waited for until its lease is over, and no longer."""
    place, told = tmp_path / "waiting.txt", Told()
    holder = start(address, tmp_path / "a", "once", place)
    try:
        wait_until(place.exists, what="the holder")
    finally:
        holder.kill()
        holder.communicate()
    (tmp_path / "b").mkdir()
    request = asked(address, tmp_path / "b", act="once")
    # Its first start waits for ever; that of the dead machine was the first.
    work = machine(address, tmp_path / "b").open_work("tiny", request.key)
    (work / "scratch" / "starts.txt").write_text("of the other machine\n")
    assert run_stage(tiny, request, told).number == 1
    waited, taken = told.lines
    assert "which computes it" in waited and str(holder.pid) in waited
    assert "takes it over" in taken


def test_a_dead_holder_of_this_cache_is_not_waited_for(address: str, tmp_path: Path) -> None:
    """The file lock of the cache tells at once that it is gone, whatever the lease says."""
    request = asked(address, tmp_path)
    store = machine(address, tmp_path)
    (store.root / "locks").mkdir(parents=True)
    note = LeaseNote(
        host=socket.gethostname(), process=1, cache=store._cache_id(), token="old", seconds=1e6
    )
    store.objects.write(f"leases/{request.key}.json", note.model_dump_json().encode())
    told = Told()
    assert run_stage(tiny, request, told).number == 1
    assert len(told.lines) == 1 and "takes it over" in told.lines[0]


def test_a_lease_lives_as_long_as_its_holder(address: str, tmp_path: Path) -> None:
    """It is renewed while the work goes on, longer than it would live by itself."""
    place = tmp_path / "computed.txt"
    holder = start(address, tmp_path / "a", "slower", place)
    wait_until(place.exists, what="the holder")
    told = Told()
    run_stage(tiny, asked(address, tmp_path / "b", act="slower", place=str(place)), told)
    holder.communicate()
    assert len(place.read_text().splitlines()) == 1
    assert len(told.lines) == 1 and "which computes it" in told.lines[0]


def test_of_two_that_computed_the_first_sealed_counts(address: str, tmp_path: Path) -> None:
    """A machine that lost its lease finishes, and then takes what the other one has sealed."""
    first, second = machine(address, tmp_path / "a"), machine(address, tmp_path / "b")
    found = []
    for number, store in enumerate((first, second)):
        work = store.open_work("tiny", "k")
        (work / "artifact" / "text").write_text(str(number))
        made = Made(digest="0" * 64, folder=work / "artifact", number=number)
        found.append(store.seal("tiny", "k", made, key_parts={}, provenance={}))
    assert [each.number for each in found] == [0, 0]
    assert (found[1].folder / "text").read_text() == "0"


def test_a_bucket_that_goes_away_costs_nothing(s3: S3Server, address: str, tmp_path: Path) -> None:
    """The run says so and ends; the next one sends what was computed, and computes nothing."""

    class Leaving(SilentReporter):
        def started(self) -> None:
            s3.stop()

    request = asked(address, tmp_path / "a")
    try:
        with pytest.raises(ServiceError, match=r"does not answer.*nothing is computed twice"):
            run_stage(tiny, request, Leaving())
        with pytest.raises(ServiceError):
            machine(address, tmp_path / "b").damage("tiny", request.key)
    finally:
        s3.start()
    assert machine(address, tmp_path / "b").damage("tiny", request.key) == "artifact deleted"
    again = machine(address, tmp_path / "a")
    assert again.load("tiny", request.key, Made).number == 1
    assert machine(address, tmp_path / "b").load("tiny", request.key, Made).number == 1


def test_a_bucket_without_rights_is_named(s3: S3Server, address: str, tmp_path: Path) -> None:
    """Who is let in, and what for, is said before anything is computed."""
    with s3.denying(), pytest.raises(ArtifactError, match=r"access denied.*s3:PutObject") as told:
        machine(address, tmp_path).check_writable()
    assert told.value.exit_code == 4


def test_without_any_credentials_the_message_is_the_same(
    s3: S3Server, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No variables, no profile, no role."""
    for name in [each for each in os.environ if each.startswith("AWS_") and "KEY" in each]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    # The library keeps a connection for a process, with the credentials that it was made with.
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(ArtifactError, match=r"access denied.*AWS_ACCESS_KEY_ID"):
        machine(address, tmp_path).check_writable()
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_bucket_that_does_not_exist_is_named(s3: S3Server, tmp_path: Path) -> None:
    """Not taken for an empty one."""
    store = machine("s3://no-such-bucket/x", tmp_path)
    with pytest.raises(ArtifactError, match="there is no such bucket"):
        store.check_writable()
    with pytest.raises(ArtifactError, match="there is no such bucket"):
        store.damage("tiny", "k")


def test_an_address_that_nothing_reads_is_named(tmp_path: Path) -> None:
    """The message says what to install."""
    with pytest.raises(ConfigError, match=r"store.folder: what://is/this.*Install"):
        open_store("what://is/this", tmp_path)


def test_other_versions_are_told(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine with another release of a library computes anew, and says which."""
    run_stage(tiny, asked(address, tmp_path / "a"))
    before = key_parts(tiny, Inputs.model_validate(asked(address, tmp_path).inputs), settings_of())
    version = before["library.pydantic"]
    monkeypatch.setattr("retune.spine.stage.library_versions", lambda _: {"pydantic": "0.1"})
    request = asked(address, tmp_path / "b")
    parts = {**before, "library.pydantic": "0.1"}
    found = look_up(machine(address, tmp_path / "b"), tiny, request, parts)
    assert (found.state, found.reason) == ("run", f"library.pydantic: {version} -> 0.1")


def test_a_folder_that_machines_share_has_leases_too(tmp_path: Path) -> None:
    """`file://` is for a mounted disk: nothing but the address is another."""
    address = f"file://{tmp_path / 'mounted'}"
    first = run_stage(tiny, asked(address, tmp_path / "a", number=3))
    shutil.rmtree(tmp_path / "a")
    assert run_stage(tiny, asked(address, tmp_path / "b", number=3)).number == first.number
    assert not list((tmp_path / "b").rglob("starts.txt"))
    assert list((tmp_path / "mounted" / "leases").iterdir()) == []


def test_a_server_without_conditions_is_told(s3: S3Server, address: str, tmp_path: Path) -> None:
    """What it answers is tried, not believed; one that has them needs no word."""
    assert machine(address, tmp_path).check_writable() == ()
    with s3.without_conditions():
        [note] = machine(address, tmp_path).check_writable()
    assert "If-None-Match" in note and address in note
    assert s3.names(address.split("/")[2]) == []
