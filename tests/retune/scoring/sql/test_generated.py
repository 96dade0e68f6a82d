"""Whatever a model writes ends its own row at most: generated predictions against every scorer."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.mutate_queries import (
    WORDS,
    find_false_yes,
    make_mutants,
    mutate,
    read_shipped,
    read_spider,
)
from retune.data.formats.schemas import create_statements
from retune.scoring.sql.score import extract_sql, score_queries
from retune.sql.canonical import canonicalize_sql
from retune.sql.hardness import HARDNESS, rate_hardness
from retune.sql.records import SqlLimits, SqlRow
from retune.sql.sandbox import SqlSandbox
from retune.sql.ties import tie_probes
from retune.training.sql_reward import SqlReward

SCHEMA = "CREATE TABLE t (a INT, b TEXT, c); CREATE TABLE u (a INT, d REAL);"
CONTEXT = SCHEMA + "INSERT INTO t VALUES (1, 'x', 2), (2, 'y', 1); INSERT INTO u VALUES (1, 0.5);"
LIMITS = SqlLimits(deadline_s=0.5, grace_s=0.3)
GOLDS = [
    "SELECT * FROM t ORDER BY 1",
    "SELECT a, count(*) FROM t WHERE b LIKE 'x%' GROUP BY a HAVING count(*) > 0 ORDER BY 2 LIMIT 1",
    "SELECT t.b FROM t JOIN u ON t.a = u.a WHERE t.c IN (SELECT c FROM t) OR NOT t.b = 'y'",
    "SELECT a FROM t UNION SELECT a FROM u ORDER BY a DESC",
    "WITH w AS (SELECT a, b FROM t) SELECT CASE WHEN b = 'x' THEN a ELSE 0 END FROM w",
]
OTHER_DIALECTS = [
    "SELECT TOP 3 [a] FROM dbo.t WITH (NOLOCK) ORDER BY GETDATE()",
    "SELECT a::int, b ILIKE 'x' FROM t WHERE a = ANY(ARRAY[1, 2]) FETCH FIRST 3 ROWS ONLY",
    "SELECT DISTINCT ON (a) a FROM t QUALIFY row_number() OVER (ORDER BY a) = 1",
    "SELECT STRUCT(a AS x), [1, 2][OFFSET(0)], EXTRACT(YEAR FROM b) FROM `p.d.t`",
    "SELECT DATE_FORMAT(b, '%Y'), INTERVAL 3 DAY, IF(a, 1, 2) FROM t LIMIT 1, 2",
    "SELECT * FROM t PIVOT (sum(a) FOR b IN ('x')) MATCH_RECOGNIZE (PATTERN (A))",
    "SELECT {{ ref('t') }} {% if x %} FROM t {% endif %}",
]
PROSE = [
    "Claro! Aqui está:\n```sql\n{}\n```\nEspero ter ajudado.",
    "```sql\n{}\n```",
    "SQL: {}",
    "<think>hm</think>{};",
    "{} -- e assim",
    "{}; {}",
    '{{"sql": "{}"}}',
]
NESTS = [("(", "1", ")"), ("NOT ", "a", ""), ("CASE WHEN a THEN ", "1", " END"), ("abs(", "1", ")")]
NESTS += [("(SELECT a FROM t WHERE a IN ", "(1)", ")"), ("- ", "1", ""), ("[", "a", "]")]
NESTS += [("CAST(", "a", " AS INT)"), ("a.", "a", ""), ("x -> ", "1", ""), ("EXISTS (", "1", ")")]


def bytes_of(chance: random.Random) -> str:
    """Any bytes, as a tokenizer may write them, lone surrogates and NULs among them."""
    raw = chance.randbytes(chance.randrange(120))
    return raw.decode("utf-8", chance.choice(["replace", "surrogateescape", "ignore"]))


def words_of(chance: random.Random) -> str:
    words = [*WORDS, "t", "u", "a", "b", "c", "d", "--", "/*", "*/", "é", "\ud800", "9" * 400]
    start = chance.choice(["SELECT", "WITH", "VALUES", "("])
    return " ".join([start, *chance.choices(words, k=chance.randrange(30))])


def mutant_of(chance: random.Random) -> str:
    sql = chance.choice(GOLDS)
    for _ in range(chance.randint(1, 4)):
        sql = mutate(sql, [*WORDS, "t", "u", "a", "b", "c"], chance) or "SELECT"
    return sql


def prose_of(chance: random.Random) -> str:
    sql = chance.choice(GOLDS)
    return chance.choice(PROSE).replace("{}", sql).replace("{{", "{").replace("}}", "}")


def dialect_of(chance: random.Random) -> str:
    return mutate(chance.choice(OTHER_DIALECTS), [*WORDS, "t", "a"], chance)


def nested_of(chance: random.Random) -> str:
    opened, inner, closed = chance.choice(NESTS)
    # Mostly within what is parsed at all; the deepest only has to be refused.
    deep = chance.choice([3, 12, 40, 90, 150]) if chance.random() < 0.95 else 4000
    end = closed * chance.choice([deep, deep, deep - 1])
    return f"SELECT {opened * deep}{inner}{end} FROM t"


KINDS: list[Callable[[random.Random], str]] = [
    bytes_of,
    words_of,
    mutant_of,
    prose_of,
    dialect_of,
    nested_of,
]


def score_all(predictions: list[str]) -> None:
    """Give the texts to every scorer, as prediction, gold, schema and training row."""
    queries = [extract_sql(text) for text in predictions]
    for at, query in enumerate(queries):
        canonical = canonicalize_sql(query, SCHEMA)
        assert (canonical.text is None) == (canonical.reason is not None)
        if at % 4 == 0:
            canonicalize_sql(query, "", dialect="postgres")
            canonicalize_sql("SELECT a FROM t", f"CREATE TABLE t ({query})")
        assert rate_hardness(query) in (*HARDNESS, None)
        assert isinstance(tie_probes(query), tuple)
        assert isinstance(create_statements("CREATE TABLE t (a); " + query), str)
    golds = [GOLDS[at % len(GOLDS)] for at in range(len(queries))]
    golds = [
        query if at % 5 == 0 else gold
        for at, (query, gold) in enumerate(zip(queries, golds, strict=True))
    ]
    rows = [
        SqlRow(
            row_id=str(at),
            gold=gold,
            schema=SCHEMA,
            context=None if at % 7 == 0 else CONTEXT,
        )
        for at, gold in enumerate(golds)
    ]
    scores = score_queries(rows, queries, limits=LIMITS)
    assert len(scores.outcomes) == len(rows)
    for row, outcome in zip(rows, scores.outcomes, strict=True):
        assert (outcome.execution_match is None) == (outcome.unscored_reason is not None)
        assert (outcome.exact_match is None) == (outcome.exact_unscored_reason is not None)
        if row.context and outcome.exact_match:
            assert outcome.execution_match is not False
    with SqlSandbox(LIMITS) as sandbox:
        reward = SqlReward(sandbox, rows, dialect="sqlite", limits=LIMITS)
        found = reward.rewards(range(len(rows)), predictions)
    assert set(found) <= {0.0, 1.0, None}


def generate(count: int, seed: int) -> list[str]:
    chance = random.Random(seed)
    return [KINDS[at % len(KINDS)](chance) for at in range(count)]


def test_no_text_ends_a_scoring() -> None:
    """120 texts of six kinds: each row has an outcome or a reason, and nothing is raised."""
    score_all(generate(120, seed=1))


@pytest.mark.slow
def test_no_text_of_thousands_ends_a_scoring() -> None:
    """5,000 texts."""
    score_all(generate(5_000, seed=2))


def test_a_mutated_gold_is_never_a_false_match() -> None:
    """300 mutations of shipped golds; each match gives the same rows on five databases."""
    matched, false = find_false_yes(make_mutants(read_shipped(), 300, seed=5), seed=5)
    assert matched > 10  # else nothing was tried
    assert false == []


@pytest.mark.slow
def test_a_mutated_gold_of_spider_is_never_a_false_match(shared_data: Path) -> None:
    """2,000 mutations of real golds."""
    rows = read_spider((shared_data / "spider_dev").resolve())
    matched, false = find_false_yes(make_mutants(rows, 2000, seed=6), seed=6)
    assert matched > 100
    assert false == []


def test_a_gold_is_its_own_exact_match() -> None:
    """A sixth of the shipped golds: no yes is missing where nothing differs."""
    rows = read_shipped()[::6]
    scores = score_queries(rows, [row.gold for row in rows])
    assert scores.exact_unscored_by_reason == {}
    assert {outcome.exact_match for outcome in scores.outcomes} == {True}
