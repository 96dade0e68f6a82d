"""Files of rows as they lie on disk: what a file holds counts, and not what it is called."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retune.data.formats.cells import as_list
from retune.data.reading.files import read_files

LIMIT = 1000
ROWS = [{"a": "1"}, {"a": "2"}, {"a": "3"}]


def read(path: Path, content: bytes, encoding: str | None = None) -> list[tuple[int, Any]]:
    """Return line and value, or line and reason, of every row."""
    path.write_bytes(content)
    return [
        (row.line, row.reason if row.value is None else row.value)
        for row in read_files([path], LIMIT, encoding)
    ]


def values(found: list[tuple[int, Any]]) -> list[Any]:
    return [value for _, value in found]


class TestShapes:
    @pytest.mark.parametrize("ending", ["jsonl", "ndjson", "json"])
    @pytest.mark.parametrize(
        "content",
        [
            json.dumps(ROWS),
            json.dumps(ROWS) + "\n",
            json.dumps(ROWS, indent=2),
            "[\n" + ",\n".join(map(json.dumps, ROWS)) + "\n]\n",
            "[" + "\n,".join(map(json.dumps, ROWS)) + "]",
            json.dumps({"data": ROWS}, indent=1),
            "\n".join(map(json.dumps, ROWS)),
            "".join(json.dumps(row, indent=2) + "\n" for row in ROWS),
            "\ufeff" + json.dumps(ROWS, indent=2),
        ],
    )
    def test_every_shape_is_read_under_every_ending(
        self, tmp_path: Path, ending: str, content: str
    ) -> None:
        """The same three rows."""
        assert values(read(tmp_path / f"a.{ending}", content.encode())) == ROWS
        packed = read(tmp_path / f"a.{ending}.gz", gzip.compress(content.encode()))
        assert values(packed) == ROWS

    def test_rows_over_lines_carry_the_line_where_they_begin(self, tmp_path: Path) -> None:
        """As `jq` writes them: three lines each."""
        content = "".join(json.dumps(row, indent=2) + "\n" for row in ROWS)
        assert [line for line, _ in read(tmp_path / "a.jsonl", content.encode())] == [1, 4, 7]

    def test_one_chat_over_lines_is_a_row(self, tmp_path: Path) -> None:
        """Its turns are no rows, under no ending."""
        chat = {"messages": [{"role": "user", "content": "q"}]}
        for name in ("a.jsonl", "a.json"):
            for indent in (None, 2):
                content = json.dumps(chat, indent=indent).encode()
                assert values(read(tmp_path / name, content)) == [chat], (name, indent)

    @pytest.mark.parametrize(
        "broken",
        [
            '{"a": ',
            '{"a": "x',
            '{"a": {"b": ',
            '{"a": [{"b": 1},',
            '[{"a": 1}, {"a"',
            "[1]",
            "no JSON",
            "}",
            '{"a": "x"} {"a": 2}',
        ],
    )
    def test_a_broken_first_line_loses_no_other(self, tmp_path: Path, broken: str) -> None:
        """A file of lines stays one, whatever its first line looks like."""
        content = "\n".join([broken, *map(json.dumps, ROWS)])
        found = read(tmp_path / "a.jsonl", content.encode())
        assert isinstance(found[0][1], str)
        assert values(found[1:]) == ROWS

    def test_a_broken_object_over_lines_is_given_up_alone(self, tmp_path: Path) -> None:
        """The next one begins with a brace at the start of its line."""
        whole = json.dumps(ROWS[0], indent=2) + "\n"
        content = whole + '{\n  "a": "x\n}\n' + whole
        found = read(tmp_path / "a.jsonl", content.encode())
        assert values(found)[::2] == [ROWS[0], ROWS[0]]
        assert found[1] == (4, "a text is not closed on line 5")

    def test_a_huge_object_over_lines_is_given_up_alone(self, tmp_path: Path) -> None:
        """1,000 bytes are allowed."""
        small = json.dumps(ROWS[0], indent=2) + "\n"
        huge = json.dumps({f"k{n}": "x" * 20 for n in range(100)}, indent=2) + "\n"
        found = values(read(tmp_path / "a.jsonl", (small + huge + small).encode()))
        assert found[0] == found[2] == ROWS[0]
        assert "data.max_row_bytes allows 1,000" in found[1]

    def test_what_is_left_of_a_list_or_put_together_is_read(self, tmp_path: Path) -> None:
        """A comma behind each row; a second file's mark inside."""
        content = b'{"a": "1"},\n\xef\xbb\xbf{"a": "2"},\n{"a": "3"}\n'
        assert values(read(tmp_path / "a.jsonl", content)) == ROWS

    @pytest.mark.parametrize(
        ("line", "says"),
        [
            (b"{'a': 1}", "a Python dict as text, no JSON"),
            (b'{"a": 1}{"a": 2}', "a second value begins here"),
        ],
    )
    def test_what_is_no_json_is_called_by_its_name(
        self, tmp_path: Path, line: bytes, says: str
    ) -> None:
        """Beside the column."""
        found = read(tmp_path / "a.jsonl", line + b'\n{"a": "2"}\n')
        assert says in found[0][1]
        assert found[1][1] == ROWS[1]

    def test_a_bad_row_of_a_list_on_one_line_is_counted(self, tmp_path: Path) -> None:
        """Its line says nothing."""
        found = read(tmp_path / "a.json", b'[{"a": "1"},{"a": },{"a": "3"}]')
        assert "(row 2 of the list)" in found[1][1]
        assert [values(found)[0], values(found)[2]] == [ROWS[0], ROWS[2]]


class TestTables:
    @pytest.mark.parametrize("sign", [",", ";", "|", "\t"])
    @pytest.mark.parametrize("ending", ["csv", "tsv", "csv.gz", "tsv.gz"])
    def test_each_delimiter_is_told(self, tmp_path: Path, sign: str, ending: str) -> None:
        """A quoted field may hold any other."""
        content = f'q{sign}a\n"x, y; z | w"{sign}1\n'.encode()
        packed = gzip.compress(content, mtime=0) if ending.endswith("gz") else content
        assert values(read(tmp_path / f"a.{ending}", packed)) == [{"q": "x, y; z | w", "a": "1"}]

    def test_the_rows_tell_where_the_header_has_several(self, tmp_path: Path) -> None:
        """Two commas in the header, none in the rows."""
        content = b"pergunta (a, b, c);resposta\nx;1\ny;2\nz;3\n"
        found = read(tmp_path / "a.csv", content)
        assert found[0] == (2, {"pergunta (a, b, c)": "x", "resposta": "1"})
        assert len(found) == 3

    def test_what_excel_says_of_the_delimiter_is_no_header(self, tmp_path: Path) -> None:
        """Nor is it a row."""
        assert read(tmp_path / "a.csv", b"sep=;\r\nq;a\r\nx;1\r\n") == [(3, {"q": "x", "a": "1"})]

    def test_a_blank_after_each_delimiter_belongs_to_none(self, tmp_path: Path) -> None:
        """Quotes begin behind it."""
        found = read(tmp_path / "a.csv", b'q, a\n"x, y", 1\n')
        assert values(found) == [{"q": "x, y", "a": "1"}]

    def test_columns_without_a_name_are_not_read(self, tmp_path: Path) -> None:
        """The index that pandas writes, and empty cells behind the last column."""
        found = read(tmp_path / "a.csv", b",q,a,,\n0,x,1,,\n1,y,2,,z\n2,w,3\n3,v,4,,,,\n")
        assert found[0][1] == {"q": "x", "a": "1"}
        assert "has 'z' under a column without a name" in found[1][1]
        assert "has 3 fields, the header has 5" in found[2][1]
        assert found[3][1] == {"q": "v", "a": "4"}

    def test_quotes_between_tabs_may_be_signs_like_any_other(self, tmp_path: Path) -> None:
        """Many programs write tabs without any quoting."""
        content = b'q\ta\n"Oi" disse ela\t1\n"aberta\t2\nfim\t3\n"x ""y"""\t4\n'
        found = values(read(tmp_path / "a.tsv", content))
        assert found == [
            {"q": '"Oi" disse ela', "a": "1"},
            {"q": '"aberta', "a": "2"},
            {"q": "fim", "a": "3"},
            {"q": 'x "y"', "a": "4"},
        ]

    def test_a_backslash_before_a_quote_is_named(self, tmp_path: Path) -> None:
        """As some databases export; the rows beside stay."""
        found = read(tmp_path / "a.csv", b'q,a\n"x \\"y\\"",1\nz,2\n')
        assert 'write a quote twice ("")' in found[0][1]
        assert found[1][1] == {"q": "z", "a": "2"}

    def test_another_sign_between_fields_is_named(self, tmp_path: Path) -> None:
        """One that stands as often in every row."""
        found = read(tmp_path / "a.csv", b"q^a\nx^1\ny^2\n")
        assert found == [
            (
                1,
                "the header: fields seem to be divided by '^'; expected one of a tab, a comma, a "
                "semicolon, a vertical bar; the file is not read",
            )
        ]

    def test_lines_that_end_as_on_old_macs_are_lines(self, tmp_path: Path) -> None:
        """In tables and in JSON Lines."""
        assert read(tmp_path / "a.csv", b"q,a\rx,1\ry,2\r")[1] == (3, {"q": "y", "a": "2"})
        assert values(read(tmp_path / "a.jsonl", b'{"a": "1"}\r{"a": "2"}\r')) == ROWS[:2]


class TestLists:
    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("[{'role': 'user', 'content': 'it\\'s'}]", [{"role": "user", "content": "it's"}]),
            ('[{"role": "user", "n": null}]', [{"role": "user", "n": None}]),
            ("[{'a': None, 'b': True, 'c': 1.5}]", [{"a": None, "b": True, "c": 1.5}]),
            ("  [1, 2] ", [1, 2]),
            ([1], [1]),
            ("text [1]", "text [1]"),
            ("[__import__('os').getcwd()]", "[__import__('os').getcwd()]"),
            ("[{'a': 1}\n {'a': 2}]", "[{'a': 1}\n {'a': 2}]"),
            ("[" * 100_000, "[" * 100_000),
            ("['" + "x" * 2_000_000 + "']", "['" + "x" * 2_000_000 + "']"),
        ],
        ids=range(10),
    )
    def test_a_list_in_a_cell_is_read_in_json_and_as_python_prints_it(
        self, text: Any, found: Any
    ) -> None:
        """Nothing is run, and what cannot be read stays as it stands."""
        assert as_list(text) == found


class TestEncodings:
    TEXT = '{"a": "Não há três “opções” — só 2 €"}\n'

    @pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz"])
    @pytest.mark.parametrize(
        "encoding", ["cp1252", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "mac_roman"]
    )
    def test_a_stated_encoding_is_read(self, tmp_path: Path, encoding: str, ending: str) -> None:
        """The signs are those that were written; lines are counted."""
        content = (self.TEXT * 3).encode(encoding)
        content = gzip.compress(content, mtime=0) if ending.endswith("gz") else content
        found = read(tmp_path / f"a.{ending}", content, encoding)
        assert found == [(n, json.loads(self.TEXT)) for n in (1, 2, 3)]

    def test_a_row_of_exactly_the_limit_is_read_as_utf8(self, tmp_path: Path) -> None:
        """`{"a": "` and `"}` are 9 bytes: 991 letters make 1,000; one more is too many."""
        for letters, whole in ((991, True), (992, False)):
            content = ('{"a": "' + "x" * letters + '"}\n{"a": "é"}\n').encode("cp1252")
            found = values(read(tmp_path / "a.jsonl", content, "cp1252"))
            assert isinstance(found[0], dict) is whole
            assert found[1] == {"a": "é"}

    @pytest.mark.parametrize(
        ("written", "stated", "says"),
        [
            ("utf-8", "cp1252", "the file is in UTF-8, not in cp1252 as stated"),
            ("utf-8-sig", "cp1252", "begins with the mark of UTF-8"),
            ("utf-16", "cp1252", "the file is in utf-16, not in cp1252"),
            ("utf-8", "utf-16", "the file is not in utf-16, as stated"),
            ("utf-16", None, "the file is in utf-16: write data.encoding: utf-16"),
            ("utf-16-le", None, "the file is in utf-16-le: write data.encoding: utf-16-le"),
            ("utf-32", None, "the file is in utf-32: write"),
        ],
    )
    def test_what_is_stated_otherwise_is_refused_and_never_learned(
        self, tmp_path: Path, written: str, stated: str | None, says: str
    ) -> None:
        """Read under the wrong name, every accent would become two letters."""
        found = read(tmp_path / "a.jsonl", self.TEXT.encode(written), stated)
        assert len(found) == 1
        assert says in found[0][1]

    @pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.json"])
    def test_the_encoding_that_a_file_seems_to_be_in_is_named(
        self, tmp_path: Path, name: str
    ) -> None:
        """With the key to write; a row in ASCII stays."""
        rows = {
            "a.jsonl": '{"a": "1"}\n{"a": "manutenção"}\n',
            "a.csv": "a\n1\nmanutenção\n",
            "a.json": '[{"a": "1"},\n{"a": "manutenção"}]',
        }
        found = read(tmp_path / name, rows[name].encode("cp1252"))
        assert found[0][1] == {"a": "1"}
        assert "is not UTF-8" in found[1][1]
        assert found[1][1].endswith("in cp1252; then write data.encoding: cp1252")

    def test_a_byte_that_an_encoding_does_not_have_costs_one_row(self, tmp_path: Path) -> None:
        """0x81 is none of Windows-1252."""
        found = read(tmp_path / "a.csv", b"a\n\xe9\n\x81\n\xe3\n", "cp1252")
        assert values(found)[::2] == [{"a": "é"}, {"a": "ã"}]
        assert "is not cp1252" in found[1][1]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (gzip.compress(b'{"a": 1}', mtime=0), "compressed with gzip; let its name end with .gz"),
        (b"PAR1....", "Parquet; let its name"),
        (b"PK\x03\x04....", "a zip archive"),
        (b"\x28\xb5\x2f\xfd....", "compressed with zstd"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
        (b"<!DOCTYPE html><html>404</html>", "the file is a page"),
        (b"%PDF-1.7", "a PDF"),
        (b"SQLite format 3\0", "a SQLite database"),
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.tsv"])
def test_another_kind_of_file_is_called_by_its_name(
    tmp_path: Path, content: bytes, says: str, name: str
) -> None:
    """One message, and not one for each line."""
    found = read(tmp_path / name, content)
    assert len(found) == 1
    assert says in found[0][1]


class TestParquet:
    def test_a_value_without_a_python_type_costs_its_row(self, tmp_path: Path) -> None:
        """A day of the year 300,000 is beyond what Python's dates hold."""
        path = tmp_path / "a.parquet"
        days = pa.array([0, 110_000_000, 1], type=pa.int32()).cast(pa.date32())
        pq.write_table(pa.table({"a": ["x", "y", "z"], "day": days}), path)
        found = [(row.line, row.value and row.value["a"]) for row in read_files([path], LIMIT)]
        assert found == [(1, "x"), (2, None), (3, "z")]

    def test_a_damaged_page_ends_its_file_alone(self, tmp_path: Path) -> None:
        """The next file is read."""
        path = tmp_path / "a.parquet"
        pq.write_table(pa.table({"a": [str(n) for n in range(5000)]}), path, compression="zstd")
        content = bytearray(path.read_bytes())
        content[30:400] = b"\xff" * 370
        path.write_bytes(content)
        (tmp_path / "b.jsonl").write_bytes(b'{"a": "1"}\n')
        found = list(read_files([path, tmp_path / "b.jsonl"], LIMIT))
        assert found[-1].value == ROWS[0]
        assert any("not readable as Parquet" in row.reason for row in found)
