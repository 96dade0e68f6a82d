"""Nothing that a prediction or a context says can write, hang, or eat the machine."""

import hashlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from retune.scoring.sql.score import score_queries
from retune.sql.records import SqlLimits, SqlOutcome, SqlRow
from retune.sql.sandbox import SqlSandbox
from tests.waiting import wait_until

LIMITS = SqlLimits(
    deadline_s=0.4, context_deadline_s=0.6, grace_s=0.3, memory_bytes=200 * 1024 * 1024
)
SCHEMA = "CREATE TABLE t (a INTEGER, b TEXT); CREATE TABLE u (a INTEGER);"
ROWS = "INSERT INTO t VALUES (1, 'x'), (2, 'y'); INSERT INTO u VALUES (1);"
FOREVER = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"
# Searching 4.5 million digits in 9 million is one step of SQLite's, of some 10^13 comparisons: it
# never looks at the clock within it.
ONE_LONG_STEP = "SELECT instr(printf('%09000000d', 0), printf('%04500000d', 1))"

WRITES = """
DROP TABLE t
DELETE FROM t
UPDATE t SET a = 0
INSERT INTO t VALUES (3, 'z')
REPLACE INTO t VALUES (3, 'z')
CREATE TABLE w (a)
CREATE TEMP TABLE w (a)
CREATE VIEW w AS SELECT 1
CREATE INDEX i ON t (a)
CREATE TRIGGER g AFTER INSERT ON t BEGIN DELETE FROM t; END
CREATE VIRTUAL TABLE w USING fts5(x)
ALTER TABLE t RENAME TO w
ALTER TABLE t ADD COLUMN c
WITH c AS (SELECT 1) DELETE FROM t
WITH c AS (SELECT 1) INSERT INTO t SELECT 1, 'x' FROM c
WITH c AS (SELECT 1) UPDATE t SET a = 9
DELETE FROM t RETURNING a
ATTACH 'FILE' AS w
ATTACH DATABASE 'file:FILE?mode=rwc' AS w
DETACH main
VACUUM
VACUUM INTO 'FILE'
REINDEX
ANALYZE
BEGIN EXCLUSIVE
COMMIT
ROLLBACK
SAVEPOINT s
EXPLAIN SELECT * FROM t
EXPLAIN QUERY PLAN SELECT * FROM t
PRAGMA journal_mode = WAL
PRAGMA writable_schema = 1
PRAGMA query_only = 0
PRAGMA temp_store_directory = '/tmp'
PRAGMA mmap_size = 1000000000000
SELECT load_extension('FILE')
SELECT readfile('/etc/passwd')
SELECT writefile('FILE', 'x')
SELECT edit('x', 'touch FILE')
SELECT fts3_tokenizer('simple', x'00')
SELECT * FROM pragma_database_list
SELECT * FROM pragma_table_info('t')
SELECT * FROM pragma_journal_mode('wal')
SELECT * FROM dbstat
SELECT * FROM sqlite_stmt
SELECT sqlite_compileoption_get(1)
SELECT last_insert_rowid()
SELECT * FROM fsdir('/')
SELECT * FROM generate_series(1, 1000000000)
SELECT a FROM t; DROP TABLE t
SELECT a FROM t; ATTACH 'FILE' AS w
SELECT a FROM t;; SELECT 1
SELECT a FROM t /* */; /* */ VACUUM INTO 'FILE'
SELECT a FROM t WHERE a = ?
SELECT a FROM t WHERE a = :name
.shell touch FILE
.output FILE
\\! touch FILE
SELECT a INTO OUTFILE 'FILE' FROM t
COPY t TO 'FILE'
SELECT random() FROM t
SELECT a FROM t ORDER BY randomblob(8)
SELECT date('now')
""".strip().splitlines()

COSTLY = [
    f"{FOREVER} SELECT count(*) FROM c",
    f"{FOREVER} SELECT x FROM c",
    f"{FOREVER} SELECT group_concat(x) FROM c",
    f"{FOREVER} SELECT x FROM c ORDER BY x",
    f"{FOREVER} SELECT DISTINCT x % 1000003 FROM c",
    "SELECT printf('%.*c', 500000000, 'x')",
    "SELECT length(printf('%.*c', 500000000, 'x'))",
    "SELECT replace(printf('%9000000d', 1), ' ', printf('%9000000d', 1))",
    "SELECT hex(hex(hex(hex(printf('%5000000d', 1)))))",
    "SELECT zeroblob(2000000000)",
    ONE_LONG_STEP,
    f"SELECT printf('%0200000d', 1) LIKE '{'%0' * 200}x'",
    "SELECT printf('%0900000d', 1) GLOB '" + "*0" * 120 + "x'",
    "SELECT count(*) FROM " + ", ".join(["t AS t" + str(n) for n in range(40)]),
    "SELECT json_group_array(printf('%1000000d', 1)) FROM "
    + ", ".join("t AS t" + str(n) for n in range(12)),
    "SELECT " + "(" * 3_000 + "1" + ")" * 3_000,
    "SELECT " + "~" * 20_000 + "1",
    "SELECT 1 " + "UNION ALL SELECT 1 " * 2_000,
    "SELECT a FROM t WHERE " + "a = 1 OR " * 4_000 + "a = 2",
    "SELECT " + ", ".join(["1"] * 3_000),
    "SELECT '" + "x" * 1_000_000 + "'",
    "SELECT '\0'",
    "SELECT a FROM t\0; DROP TABLE t",
    "SELECT '\ud800' FROM t",
    "\ufeffDROP TABLE t",
    "",
    ";",
    "--",
    "/*",
]

CONTEXTS = [
    "ATTACH 'FILE' AS w; CREATE TABLE w.t (a);",
    "VACUUM INTO 'FILE';",
    "CREATE TABLE t (a); PRAGMA journal_mode = WAL;",
    "PRAGMA writable_schema = 1; CREATE TABLE t (a);",
    "PRAGMA temp_store_directory = '/tmp'; CREATE TABLE t (a);",
    "CREATE TABLE t (a); INSERT INTO t SELECT load_extension('FILE');",
    "CREATE TABLE t (a); INSERT INTO t SELECT writefile('FILE', 'x');",
    "CREATE TABLE t (a); INSERT INTO t SELECT readfile('/etc/passwd');",
    "CREATE TABLE t (a); INSERT INTO t VALUES (random());",
    f"CREATE TABLE t (a); INSERT INTO t {FOREVER} SELECT x FROM c;",
    f"CREATE TABLE t AS {FOREVER} SELECT x AS a FROM c;",
    f"CREATE TABLE t (a); INSERT INTO t {FOREVER} SELECT count(*) FROM c;",
    f"CREATE TABLE t (a); INSERT INTO t {FOREVER} SELECT printf('%1000000d', x) FROM c;",
    "CREATE TABLE t (a); INSERT INTO t SELECT printf('%.*c', 500000000, 'x');",
    "CREATE TABLE t (a); INSERT INTO t SELECT zeroblob(2000000000);",
    "CREATE TABLE t (a); CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO t VALUES (1); END;",
    "CREATE VIRTUAL TABLE t USING fts5(a);",
    "CREATE TEMP TABLE t (a); INSERT INTO t VALUES (1);",
    "CREATE TABLE t (a); INSERT INTO t VALUES (1); DROP TABLE t;",
    "CREATE TABLE t (a); INSERT INTO t VALUES (1); DELETE FROM t;",
    "CREATE TABLE t (a); INSERT INTO t VALUES (1); UPDATE t SET a = 2;",
    "CREATE TABLE t (a); INSERT INTO t SELECT 1 FROM pragma_database_list;",
    "CREATE TABLE t (a); INSERT INTO sqlite_master VALUES ('table', 'x', 'x', 2, 'x');",
    "CREATE TABLE t (a); ALTER TABLE t RENAME TO w;",
    "CREATE TABLE t (a); .shell touch FILE",
    "CREATE TABLE t (a); INSERT INTO t VALUES (1); DETACH main;",
    "ANALYZE;",
    "not sql at all",
    "CREATE TABLE t (a CHECK (a IN (SELECT 1)));",
    "CREATE TABLE t (a); INSERT INTO t VALUES ('\0');",
]


def snapshot(*folders: Path) -> dict[str, tuple[int, str]]:
    """Size and digest of every file below the folders."""
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return {
        str(path): (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in files
    }


def living_workers() -> list[int]:
    """Children of this process whose command line is the SQL worker's."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == os.getpid() and b"scoring.sql.worker" in command:
            found.append(int(entry.name))
    return found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a database, that is also the working folder; unchanged afterwards."""
    connection = sqlite3.connect(tmp_path / "db.sqlite")
    connection.executescript(SCHEMA + ROWS)
    connection.close()
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path)
    yield tmp_path
    assert snapshot(tmp_path) == before
    assert living_workers() == []


def judge(place: Path, sql: str, *, gold: str = "SELECT a FROM t") -> SqlOutcome:
    row = SqlRow(row_id="r", schema=SCHEMA, gold=gold, database=place / "db.sqlite")
    return score_queries([row], [sql], limits=LIMITS).outcomes[0]


def test_there_are_enough_attacks() -> None:
    assert len(WRITES) + len(COSTLY) >= 60
    assert len(CONTEXTS) >= 20


@pytest.mark.slow
def test_no_hostile_prediction_counts_changes_or_outlives_anything(place: Path) -> None:
    attacks = [sql.replace("FILE", str(place / "evil")) for sql in WRITES] + COSTLY
    rows = [
        SqlRow(row_id=str(at), schema=SCHEMA, gold="SELECT a FROM t", database=place / "db.sqlite")
        for at in range(len(attacks))
    ]
    scores = score_queries(rows, attacks, limits=LIMITS)
    matched = [attacks[int(o.row_id)][:80] for o in scores.outcomes if o.execution_match]
    unscored = [o for o in scores.outcomes if o.execution_match is None]
    assert matched == []
    assert unscored == []


@pytest.mark.parametrize("sql", WRITES)
def test_a_prediction_that_is_no_plain_query_does_not_run(place: Path, sql: str) -> None:
    outcome = judge(place, sql.replace("FILE", str(place / "evil")))
    assert outcome.executable is False
    assert outcome.wrong_reason in {
        *("unsafe", "several_statements", "not_a_query", "failed", "not_deterministic")
    }


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT load_extension('x')",
        "SELECT * FROM pragma_database_list",
        "WITH c AS (SELECT 1) DELETE FROM t",
        "SELECT * FROM dbstat",
        "SELECT count(*) FROM dbstat",
        "SELECT count(*) FROM pragma_database_list",
        "SELECT fts3_tokenizer('simple', x'00')",
    ],
)
def test_the_authorizer_itself_refuses(place: Path, sql: str) -> None:
    assert judge(place, sql).wrong_reason == "unsafe"


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_hostile_context_leaves_its_row_unscored(place: Path, context: str) -> None:
    row = SqlRow(
        row_id="r", gold="SELECT a FROM t", context=context.replace("FILE", str(place / "evil"))
    )
    outcome = score_queries([row], ["SELECT a FROM t"], limits=LIMITS).outcomes[0]
    assert outcome.execution_match is None
    assert (outcome.unscored_reason or "").startswith("database_")


@pytest.mark.slow
def test_the_workers_stay_under_their_memory_limit(place: Path) -> None:
    # Runs in its own process: what the children of this one once used cannot be taken back.
    code = (
        "import resource, sys, pathlib\n"
        "from retune.sql.records import SqlLimits, SqlRow\n"
        "from retune.scoring.sql.score import score_queries\n"
        "limits = SqlLimits.model_validate_json(sys.argv[1])\n"
        "attacks = sys.stdin.read().split('\\x1e')\n"
        "rows = [SqlRow(row_id=str(n), gold='SELECT 1', database=pathlib.Path(sys.argv[2]))\n"
        "        for n in range(len(attacks))]\n"
        "score_queries(rows, attacks, limits=limits)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, LIMITS.model_dump_json(), str(place / "db.sqlite")],
        input="\x1e".join(COSTLY[:15]),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert 0 < int(done.stdout) * 1024 <= LIMITS.memory_bytes


@pytest.mark.slow
def test_building_hostile_contexts_stays_under_the_memory_limit(place: Path) -> None:
    """As predictions: the peak of all workers, measured in a process of its own."""
    code = (
        "import resource, sys\n"
        "from retune.sql.records import SqlLimits, SqlRow\n"
        "from retune.scoring.sql.score import score_queries\n"
        "limits = SqlLimits.model_validate_json(sys.argv[1])\n"
        "contexts = sys.stdin.read().split('\\x1e')\n"
        "rows = [SqlRow(row_id=str(n), gold='SELECT 1', context=one)\n"
        "        for n, one in enumerate(contexts)]\n"
        "score_queries(rows, ['SELECT 1'] * len(rows), limits=limits)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )
    contexts = [one.replace("FILE", str(place / "evil")) for one in CONTEXTS]
    done = subprocess.run(
        [sys.executable, "-c", code, LIMITS.model_dump_json()],
        input="\x1e".join(contexts),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert 0 < int(done.stdout) * 1024 <= LIMITS.memory_bytes


@pytest.mark.slow
def test_several_workers_at_a_time_hold_as_well(place: Path) -> None:
    """Hostile contexts and hostile predictions, three sandboxes; nothing changes, none is left."""
    attacks = [sql.replace("FILE", str(place / "evil")) for sql in [*WRITES[:20], *COSTLY[:6]]]
    contexts = [one.replace("FILE", str(place / "evil")) for one in CONTEXTS]
    rows = [
        *(SqlRow(row_id="c", gold="SELECT a FROM t", context=context) for context in contexts),
        *(
            SqlRow(row_id="p", gold="SELECT a FROM t", database=place / "db.sqlite")
            for _ in attacks
        ),
    ]
    texts = ["SELECT a FROM t"] * len(contexts) + attacks
    scores = score_queries(rows, texts, limits=LIMITS, workers=3)
    assert {o.execution_match for o in scores.outcomes if o.row_id == "c"} == {None}
    assert {o.execution_match for o in scores.outcomes if o.row_id == "p"} == {False}


@pytest.mark.parametrize("gold", [f"{FOREVER} SELECT x FROM c ORDER BY x LIMIT 2", ONE_LONG_STEP])
def test_a_hostile_gold_leaves_its_row_unscored(place: Path, gold: str) -> None:
    """Nor is it asked for ties."""
    outcome = judge(place, "SELECT a FROM t", gold=gold)
    assert (outcome.unscored_reason, outcome.gold_cuts_tie) == ("gold_timeout", None)


def test_a_step_that_cannot_be_interrupted_is_killed(place: Path) -> None:
    outcome = judge(place, ONE_LONG_STEP)
    assert outcome.wrong_reason == "timeout"
    assert "killed" in outcome.detail


def test_the_row_after_a_killed_worker_is_scored_as_ever(place: Path) -> None:
    row = SqlRow(row_id="r", gold="SELECT a FROM t", database=place / "db.sqlite")
    texts = ["SELECT a FROM t", ONE_LONG_STEP, "SELECT a FROM t"]
    scores = score_queries([row] * 3, texts, limits=LIMITS)
    assert [o.execution_match for o in scores.outcomes] == [True, False, True]


def test_a_worker_dies_with_its_parent(place: Path) -> None:
    code = (
        "import os, sys, time\n"
        "from retune.sql.records import SqlLimits\n"
        "from retune.sql.sandbox import SqlSandbox\n"
        "box = SqlSandbox(SqlLimits(deadline_s=60))\n"
        "box.ask('open', deadline_s=60, context='CREATE TABLE t (a)')\n"
        "print(box._process.pid, flush=True)\n"
        f"box.ask('gold', deadline_s=60, sql={(FOREVER + ' SELECT count(*) FROM c')!r})\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not _runs(worker), what="the worker's end")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_the_worker_loads_nothing_heavy() -> None:
    with SqlSandbox(LIMITS) as box:
        box.ask("open", deadline_s=5, context=SCHEMA)
        process = box._process
        assert process is not None
        maps = Path(f"/proc/{process.pid}/maps").read_text()
    assert not any(name in maps for name in ("torch", "numpy", "pydantic", "pandas"))


def test_the_worker_cannot_write_a_file_even_without_the_authorizer(place: Path) -> None:
    # The second wall: the kernel's limit on file size, tried in a process restricted as a worker.
    code = (
        "import os, sys\n"
        "from retune.sql.worker import restrict_process\n"
        f"restrict_process({512 * 1024 * 1024}, os.getppid())\n"
        "try:\n    os.write(os.open('evil', os.O_CREAT | os.O_WRONLY), b'x')\n"
        "except OSError as error:\n    print(error.errno)\n"
        "os.unlink('evil')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert int(done.stdout) == 27  # EFBIG


def test_a_write_ahead_log_gets_no_files_beside_it(tmp_path: Path) -> None:
    # Opening such a database read-only makes -wal and -shm files, unless it is immutable.
    connection = sqlite3.connect(tmp_path / "db.sqlite")
    connection.executescript("PRAGMA journal_mode=WAL;" + SCHEMA + ROWS)
    connection.close()
    before = snapshot(tmp_path)
    assert judge(tmp_path, "SELECT a FROM t").execution_match is True
    assert snapshot(tmp_path) == before


def test_the_limit_on_memory_is_in_force() -> None:
    with SqlSandbox(LIMITS) as box:
        box.ask("open", deadline_s=5, context=SCHEMA)
        process = box._process
        assert process is not None
        text = Path(f"/proc/{process.pid}/limits").read_text()
    assert str(LIMITS.memory_bytes) in next(
        line for line in text.splitlines() if line.startswith("Max address space")
    )
