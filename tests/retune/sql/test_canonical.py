"""Which queries are written alike."""

import pytest

from retune.sql.canonical import canonicalize_sql
from retune.sql.catalogue import read_schema

SCHEMA = """
CREATE TABLE livros (id INTEGER, titulo TEXT, preco REAL, autor_id INTEGER);
CREATE TABLE autores (id INTEGER, nome TEXT, cidade TEXT);
"""


def canonical(sql: str) -> str:
    result = canonicalize_sql(sql, SCHEMA)
    assert result.text is not None, result
    return result.text


ALIKE = [
    ("SELECT titulo FROM livros", "select LIVROS.Titulo from Livros"),
    ("SELECT titulo FROM livros", "SELECT l.titulo AS nome_do_livro FROM livros AS l;"),
    ("SELECT titulo FROM livros", 'SELECT "titulo" FROM `livros`'),
    (
        "SELECT titulo FROM livros WHERE preco > 3 AND id = 1 AND autor_id = 2",
        "SELECT titulo FROM livros WHERE (autor_id = 2 AND (1 = id AND 3 < preco))",
    ),
    (
        "SELECT titulo FROM livros WHERE preco > 3 OR id = 1 AND autor_id = 2",
        "SELECT titulo FROM livros WHERE (autor_id = 2 AND id = 1) OR preco > 3",
    ),
    (
        "SELECT l.titulo FROM livros l JOIN autores a ON l.autor_id = a.id WHERE a.nome = 'Ana'",
        "SELECT x.titulo FROM autores x2, livros x WHERE x2.nome = 'Ana' AND x2.id = x.autor_id",
    ),
    (
        "SELECT titulo FROM livros WHERE titulo = 'Ana'",
        'SELECT titulo FROM livros WHERE titulo = "Ana"',
    ),
    (
        "SELECT cidade, COUNT(*) FROM autores GROUP BY cidade ORDER BY COUNT(*)",
        "SELECT cidade, count(*) AS n FROM autores GROUP BY autores.cidade ORDER BY n ASC",
    ),
    (
        "SELECT a.nome, b.nome FROM autores a JOIN autores b ON a.cidade = b.cidade",
        "SELECT y.nome, x.nome FROM autores x JOIN autores y ON x.cidade = y.cidade",
    ),
    (
        "SELECT nome FROM autores WHERE id IN (SELECT autor_id FROM livros WHERE preco > 3)",
        "SELECT T1.nome FROM autores T1 WHERE T1.id IN "
        "(SELECT T1.autor_id FROM livros AS T1 WHERE 3 < T1.preco)",
    ),
    (
        "SELECT id FROM autores UNION SELECT autor_id FROM livros",
        "SELECT a.id AS x FROM autores a UNION SELECT autor_id AS y FROM livros",
    ),
]

DIFFERENT = [
    ("SELECT titulo FROM livros", "SELECT DISTINCT titulo FROM livros"),
    ("SELECT titulo FROM livros WHERE preco > 3", "SELECT titulo FROM livros WHERE preco >= 3"),
    ("SELECT titulo FROM livros WHERE preco > 3", "SELECT titulo FROM livros WHERE preco < 3"),
    (
        "SELECT titulo FROM livros WHERE titulo = 'Ana'",
        "SELECT titulo FROM livros WHERE titulo = 'ana'",
    ),
    (
        "SELECT titulo FROM livros WHERE preco = 3.0",
        "SELECT titulo FROM livros WHERE preco = 3",
    ),
    (
        "SELECT titulo FROM livros WHERE (id = 1 OR id = 2) AND preco > 3",
        "SELECT titulo FROM livros WHERE id = 1 OR id = 2 AND preco > 3",
    ),
    (
        "SELECT titulo FROM livros WHERE NOT (id = 1 AND preco > 3)",
        "SELECT titulo FROM livros WHERE NOT id = 1 AND preco > 3",
    ),
    (
        "SELECT nome FROM autores LEFT JOIN livros ON autores.id = livros.autor_id",
        "SELECT nome FROM livros LEFT JOIN autores ON autores.id = livros.autor_id",
    ),
    (
        "SELECT nome FROM autores LEFT JOIN livros ON autores.id = livros.autor_id",
        "SELECT nome FROM autores JOIN livros ON autores.id = livros.autor_id",
    ),
    # In GROUP BY the column `nome` goes before the output name `nome`.
    (
        "SELECT cidade AS nome FROM autores GROUP BY nome",
        "SELECT cidade FROM autores GROUP BY cidade",
    ),
    (
        "SELECT a.nome FROM autores a JOIN autores b ON a.id < b.id",
        "SELECT b.nome FROM autores a JOIN autores b ON a.id < b.id",
    ),
    # The inner T1 hides the outer one: correlated in one query, not in the other.
    (
        "SELECT nome FROM autores T1 WHERE EXISTS (SELECT 1 FROM livros T2 WHERE T2.id = T1.id)",
        "SELECT nome FROM autores T2 WHERE EXISTS (SELECT 1 FROM livros T1 WHERE T1.id = T1.id)",
    ),
    ("SELECT MAX(preco) FROM livros", "SELECT MIN(preco) FROM livros"),
    ("SELECT id FROM livros LIMIT 1", "SELECT id FROM livros LIMIT 2"),
    ("SELECT id FROM livros ORDER BY id", "SELECT id FROM livros ORDER BY id DESC"),
    (
        "SELECT id FROM autores UNION SELECT id FROM livros",
        "SELECT id FROM autores UNION ALL SELECT id FROM livros",
    ),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_the_same_query_written_otherwise_is_alike(one: str, other: str) -> None:
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_another_query_is_not_alike(one: str, other: str) -> None:
    assert canonical(one) != canonical(other)


@pytest.mark.parametrize("sql", [sql for pair in ALIKE + DIFFERENT for sql in pair])
def test_a_canonical_text_says_the_same_every_time(sql: str) -> None:
    assert canonical(sql) == canonical(sql)


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ("-- nothing", "empty"),
        ("SELECT FROM WHERE", "not_parsed"),
        ("SELECT id FROM livros; SELECT 1", "several_statements"),
        ("DROP TABLE livros", "not_a_query"),
        ("SELECT colunm FROM livros", "unknown_name"),
        ("SELECT " + "(" * 5_000 + "1" + ")" * 5_000, "too_long"),
        ("SELECT '" + "x" * 1_000_000 + "'", "too_long"),
    ],
)
def test_what_has_no_canonical_text_says_why(sql: str, reason: str) -> None:
    result = canonicalize_sql(sql, SCHEMA)
    assert (result.text, result.reason) == (None, reason)


def test_a_schema_without_a_comma_before_its_constraint_is_read() -> None:
    schema = "CREATE TABLE a (x TEXT, PRIMARY KEY (x)\nFOREIGN KEY (x) REFERENCES b(x))"
    assert read_schema(schema, "sqlite") == {"a": {"x": "TEXT"}}
    assert canonicalize_sql("SELECT x FROM a", schema).text == "SELECT a.x FROM a AS a"


def test_another_dialect_is_parsed_as_declared() -> None:
    # Backslash escapes are MySQL's; SQLite reads the same text as an unfinished one.
    sql = r"SELECT titulo FROM livros WHERE titulo = 'it\'s'"
    assert canonicalize_sql(sql, SCHEMA, dialect="mysql").text is not None
    assert canonicalize_sql(sql, SCHEMA, dialect="sqlite").text is None
