"""Reading files of rows: what is kept, and what is said of the rest."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retune.data.reading import arrays
from retune.data.reading.files import RawRow, read_files

LIMIT = 1000


def read(path: Path, content: bytes, limit: int = LIMIT) -> list[tuple[int, Any]]:
    """Return line and value, or line and reason, of every row."""
    path.write_bytes(content)
    return [told(row) for row in read_files([path], limit)]


def told(row: RawRow) -> tuple[int, Any]:
    return row.line, row.reason if row.value is None else row.value


class TestJsonLines:
    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            (b'{"a": }', "at column 7: Expecting value"),
            (b'{"a": "b\xff"}', "byte 8 is not UTF-8 (save the file as UTF-8)"),
            (b"[1]", "found list"),
            (b'{"a": NaN}', "NaN is not JSON"),
            (b'{"a": -Infinity}', "-Infinity is not JSON"),
            (b'{"a": "b\0"}', "byte 8 is NUL"),
            (b'{"a": "' + b"x" * LIMIT + b'"}', "1,010 bytes, data.max_row_bytes allows 1,000"),
            (b'{"a": ' + b"[" * 900, "Expecting value"),
        ],
    )
    def test_a_bad_line_loses_no_other(self, tmp_path: Path, line: bytes, reason: str) -> None:
        """Line 2 is named with its reason; lines 1 and 3 are read."""
        found = read(tmp_path / "a.jsonl", b'{"a": 1}\n' + line + b'\n{"a": 3}\n')
        assert found[0] == (1, {"a": 1})
        assert found[1][0] == 2
        assert reason in found[1][1]
        assert found[2:] == [(3, {"a": 3})]

    @pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
    def test_a_limit_that_no_parser_could_hold_is_none(self, tmp_path: Path, name: str) -> None:
        """A recipe may state any whole number: this one does not fit into 64 bits."""
        path = tmp_path / name
        path.write_bytes(b'{"a": 1}\n' if name == "a.jsonl" else b"a\n1\n")
        assert [row.reason for row in read_files([path], 10**30)] == [""]

    def test_a_row_of_exactly_the_limit_is_read(self, tmp_path: Path) -> None:
        """`{"a": "` and `"}` are 9 bytes: 991 letters make 1,000."""
        row = b'{"a": "' + b"x" * (LIMIT - 9) + b'"}'
        assert read(tmp_path / "a.jsonl", row + b"\n") == [(1, {"a": "x" * 991})]
        assert read(tmp_path / "b.jsonl", row) == [(1, {"a": "x" * 991})]

    def test_a_huge_row_is_never_held(self, tmp_path: Path) -> None:
        """50 MB on one line are skipped; what is held stays under 5 MB."""
        import tracemalloc

        path = tmp_path / "a.jsonl"
        with open(path, "wb") as file:
            file.write(b'{"a": "')
            for _ in range(50):
                file.write(b"x" * 1_000_000)
            file.write(b'"}\n{"a": 2}\n')
        tracemalloc.start()
        found = [told(row) for row in read_files([path], 1_000_000)]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found[0][0] == 1
        # 7 + 50,000,000 + 2 and the line's end.
        assert "50,000,010 bytes" in found[0][1]
        assert found[1] == (2, {"a": 2})
        assert peak < 5_000_000

    def test_blank_lines_and_a_byte_order_mark_are_no_rows(self, tmp_path: Path) -> None:
        """The line numbers stay those that an editor shows."""
        found = read(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"a": 1}\r\n\r\n  \n{"a": 2}')
        assert found == [(1, {"a": 1}), (4, {"a": 2})]

    def test_another_encoding_is_named(self, tmp_path: Path) -> None:
        """One message for the file, and not one for each line."""
        found = read(tmp_path / "a.jsonl", '{"a": 1}\n{"a": 2}\n'.encode("utf-16"))
        reason = "the file is in utf-16: write data.encoding: utf-16 (or encoding: utf-16 at the "
        assert found == [(1, f"{reason}source), or save it as UTF-8")]


class TestCompressed:
    def test_a_compressed_file_is_read_like_the_plain_one(self, tmp_path: Path) -> None:
        """For each of the text endings."""
        for ending, content in (
            ("jsonl", b'{"a": "1"}\n'),
            ("json", b'[{"a": "1"}]'),
            ("csv", b"a\n1\n"),
        ):
            found = read(tmp_path / f"a.{ending}.gz", gzip.compress(content))
            assert [value for _, value in found] == [{"a": "1"}], ending

    def test_a_file_that_breaks_off_keeps_what_came_before(self, tmp_path: Path) -> None:
        """Half of the bytes of 2,000 rows: some rows, then one reason."""
        rows = b"".join(b'{"a": %d}\n' % (n * 7919 % 10007) for n in range(2000))
        whole = gzip.compress(rows)
        found = read(tmp_path / "a.jsonl.gz", whole[: len(whole) // 2])
        assert found[0] == (1, {"a": 0})
        assert "the compressed file is broken" in found[-1][1]
        assert sum(isinstance(value, str) for _, value in found) == 1


class TestJson:
    @pytest.mark.parametrize("ending", ["json", "json.gz"])
    @pytest.mark.parametrize("letters", [1, 9_000, 300_000])
    def test_json_lines_are_told_however_long_the_first_row_is(
        self, tmp_path: Path, ending: str, letters: int
    ) -> None:
        """Longer than what a buffer shows ahead; blank lines before and between do not count."""
        row = b'{"a": "' + b"x" * letters + b'"}\n'
        content = b" \n" + row + b"\n" + row
        path = tmp_path / f"a.{ending}"
        path.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
        assert [(found.line, found.reason) for found in read_files([path], 10**6)] == [
            (2, ""),
            (4, ""),
        ]

    def test_a_compressed_list_that_breaks_off_keeps_what_came_before(self, tmp_path: Path) -> None:
        """Lists on one line, under a key and not: no line has an end to wait for."""
        rows = b",".join(b'{"a": %d}' % (n * 7919 % 10007) for n in range(20_000))
        for name, content in (("a", b"[" + rows + b"]"), ("b", b'{"d": [' + rows + b"]}")):
            whole = gzip.compress(content)
            found = read(tmp_path / f"{name}.json.gz", whole[: len(whole) // 2])
            assert found[0] == (1, {"a": 0})
            assert "the compressed file is broken" in found[-1][1]

    def test_rows_carry_the_line_where_they_begin(self, tmp_path: Path) -> None:
        """The first row spans lines 2 to 4, so the second begins on line 5."""
        found = read(tmp_path / "a.json", b'[\n {\n  "a": 1\n },\n {"a": 2},\n {"a": 3}]\n')
        assert found == [(2, {"a": 1}), (5, {"a": 2}), (6, {"a": 3})]

    def test_a_malformed_row_loses_no_other(self, tmp_path: Path) -> None:
        """Its brackets match, so that the rows after it can be cut out."""
        found = read(tmp_path / "a.json", b'[{"a": 1},\n{"a": },\n{"a": 3}]')
        assert [line for line, _ in found] == [1, 2, 3]
        assert "at column 7: Expecting value" in found[1][1]
        assert found[2][1] == {"a": 3}

    @pytest.mark.parametrize(
        ("rest", "line", "reason"),
        [
            (b'{"a": "x}, \n{"a": 3}]', 2, "a text is not closed on this line"),
            (b'{"a": 2]}, {"a": 3}]', 2, "a ] closes what is not open"),
            (b'{"a": 2, "b": [', 2, "the file ends inside what begins here"),
        ],
    )
    def test_a_broken_array_keeps_what_stands_before(
        self, tmp_path: Path, rest: bytes, line: int, reason: str
    ) -> None:
        """One row, and one reason for all that follows."""
        found = read(tmp_path / "a.json", b'[{"a": 1},\n' + rest)
        assert found[0] == (1, {"a": 1})
        assert len(found) == 2
        assert found[1][0] == line
        assert reason in found[1][1]

    def test_an_array_without_its_end_keeps_its_last_row(self, tmp_path: Path) -> None:
        """The row is whole; that more may be missing is said."""
        found = read(tmp_path / "a.json", b'[{"a": 1},\n{"a": 2}')
        assert found[:2] == [(1, {"a": 1}), (2, {"a": 2})]
        assert "the file ends before its list of rows does" in found[2][1]

    def test_the_one_list_of_objects_of_an_object_is_read(self, tmp_path: Path) -> None:
        """A list of names beside it is no list of rows."""
        text = b'{"version": "1", "columns": ["a"],\n "data": [{"a": 1},\n {"a": [2]}], "n": {}}'
        assert read(tmp_path / "a.json", text) == [(2, {"a": 1}), (3, {"a": [2]})]

    def test_a_second_list_of_objects_is_not_mixed_in(self, tmp_path: Path) -> None:
        """Training and test rows of one file must not become one set."""
        found = read(tmp_path / "a.json", b'{"train": [{"a": 1}],\n"test": [{"a": 2}]}')
        assert found[0] == (1, {"a": 1})
        assert found[1][0] == 2
        assert "a second list of rows" in found[1][1]

    def test_json_lines_under_the_other_ending_are_read(self, tmp_path: Path) -> None:
        """Many public sets are named so."""
        found = read(tmp_path / "a.json", b'{"a": 1}\n{"a": }\n{"a": 3}\n')
        assert [line for line, _ in found] == [1, 2, 3]
        assert found[2][1] == {"a": 3}

    def test_a_huge_row_is_skipped(self, tmp_path: Path) -> None:
        """The rows on both sides of it stay."""
        huge = b'{"a": "' + b"x" * 5000 + b'"}'
        found = read(tmp_path / "a.json", b'[{"a": 1},' + huge + b',\n{"a": 3}]')
        assert found[0] == (1, {"a": 1})
        assert "5,009 bytes" in found[1][1]
        assert found[2] == (2, {"a": 3})

    def test_no_list_is_said(self, tmp_path: Path) -> None:
        """One row by itself is no list of rows."""
        assert "no list of rows" in read(tmp_path / "a.json", b'{"a": {"b": 1}}')[0][1]
        assert "expected a list of rows" in read(tmp_path / "b.json", b" 7 ")[0][1]

    @given(
        rows=st.lists(
            st.dictionaries(
                st.text(max_size=4),
                st.one_of(st.integers(), st.text(max_size=8), st.lists(st.text(max_size=3))),
                max_size=3,
            ),
            min_size=1,
            max_size=6,
        ),
        indent=st.sampled_from([None, 0, 2]),
        chunk=st.integers(min_value=1, max_value=40),
    )
    def test_however_the_bytes_arrive_the_rows_are_those_of_the_parser(
        self, rows: list[dict[str, Any]], indent: int | None, chunk: int
    ) -> None:
        """The cutter works on pieces: a quote or an escape may lie on a border."""
        text = json.dumps(rows, indent=indent, ensure_ascii=False).encode()
        cutter = arrays._Cutter(LIMIT)
        pieces = [text[at : at + chunk] for at in range(0, len(text), chunk)]
        found = [row.value for piece in pieces for row in cutter.feed(piece)]
        assert found + [row.value for row in cutter.finish()] == rows


class TestCsv:
    def test_a_quoted_line_break_belongs_to_its_row(self, tmp_path: Path) -> None:
        """The row that begins on line 2 ends on line 3, so the next begins on line 4."""
        found = read(tmp_path / "a.csv", b'a,b\n1,"x\ny"\n2,"say ""so"""\n')
        assert found == [(2, {"a": "1", "b": "x\ny"}), (4, {"a": "2", "b": 'say "so"'})]

    @given(
        rows=st.lists(
            st.tuples(
                st.integers(0, 99).map(str),
                st.text(alphabet='ab ,;"\n\ré\t', min_size=1, max_size=12),
            ),
            min_size=1,
            max_size=8,
        ),
        delimiter=st.sampled_from([",", ";", "\t"]),
    )
    def test_what_a_writer_wrote_is_read_with_its_lines(
        self, rows: list[tuple[str, str]], delimiter: str
    ) -> None:
        """Each row begins one line after the end of the one before."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter=delimiter, lineterminator="\r\n")
        writer.writerow(["n", "text"])
        begins = []
        for row in rows:
            begins.append(text.getvalue().count("\n") + 1)
            writer.writerow(row)
        with tempfile.TemporaryDirectory() as folder:
            found = read(Path(folder) / "a.csv", text.getvalue().encode())
        expected = [{"n": number, "text": said} for number, said in rows]
        assert found == list(zip(begins, expected, strict=True))

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            (b"1", "has 1 fields, the header has 2"),
            (b"1,2,3", "has 3 fields, the header has 2"),
            (b"1,\0", "NUL"),
            (b"1,\xff", "is not UTF-8"),
            (b'1,"open', "look for a quote that is not closed"),
            (b'1,"x"y', "look for a quote that is not closed"),
            (b"1," + b"x" * LIMIT, "data.max_row_bytes"),
        ],
    )
    def test_a_bad_row_loses_no_other(self, tmp_path: Path, line: bytes, reason: str) -> None:
        """Not even one whose quote is never closed: the rows after it are read."""
        found = read(tmp_path / "a.csv", b"a,b\n0,x\n" + line + b'\n2,"y"\n3,z\n')
        assert found[0] == (2, {"a": "0", "b": "x"})
        assert found[1][0] == 3
        assert reason in found[1][1]
        assert found[2:] == [(4, {"a": "2", "b": "y"}), (5, {"a": "3", "b": "z"})]

    def test_an_open_quote_before_many_rows_costs_one_row(self, tmp_path: Path) -> None:
        """300 rows of 8 bytes are more than a row may have; they look like rows by themselves."""
        rows = b"".join(b"%03d,abc\n" % n for n in range(300))
        found = read(tmp_path / "a.csv", b'a,b\n0,"open\n' + rows)
        assert found[0] == (2, "a quote that opens here is not closed")
        assert len(found) == 301
        assert found[-1] == (302, {"a": "299", "b": "abc"})

    def test_a_long_quoted_text_is_one_bad_row(self, tmp_path: Path) -> None:
        """Its 300 lines are no rows by themselves, and give no further reasons."""
        text = b"words and words\n" * 300
        found = read(tmp_path / "a.csv", b'a,b\n0,"' + text + b'"\n1,x\n')
        assert found[0][0] == 2
        # `0,"`, 300 lines of 16 bytes, `"` and the line's end.
        assert "4,805 bytes" in found[0][1]
        assert found[1:] == [(303, {"a": "1", "b": "x"})]

    def test_a_byte_order_mark_and_blank_lines_are_nothing(self, tmp_path: Path) -> None:
        """Also before the header; and lines may end as on Windows."""
        found = read(tmp_path / "a.csv", b"\xef\xbb\xbf\r\na;b\r\n\r\n1;2,5\r\n")
        assert found == [(4, {"a": "1", "b": "2,5"})]

    def test_a_header_that_names_a_column_twice_is_refused(self, tmp_path: Path) -> None:
        """Which one a row's value belongs to could not be told."""
        found = read(tmp_path / "a.csv", b"a,a\n1,2\n")
        assert found == [(1, "the header: names 'a' twice; the file is not read")]


class TestParquet:
    def test_rows_are_numbered(self, tmp_path: Path) -> None:
        """Lists and texts arrive as such; a row's number stands for its line."""
        path = tmp_path / "a.parquet"
        pq.write_table(pa.table({"a": ["x", None], "b": [[{"c": 1}], []]}), path)
        found = [told(row) for row in read_files([path], LIMIT)]
        assert found == [(1, {"a": "x", "b": [{"c": 1}]}), (2, {"a": None, "b": []})]

    def test_a_huge_row_and_a_broken_file_are_named(self, tmp_path: Path) -> None:
        """The rows beside stay."""
        path = tmp_path / "a.parquet"
        pq.write_table(pa.table({"a": ["x" * 2000, "y"]}), path)
        found = [told(row) for row in read_files([path], LIMIT)]
        assert "2,000 bytes" in found[0][1]
        assert found[1] == (2, {"a": "y"})
        assert "not readable as Parquet" in read(tmp_path / "b.parquet", b"no parquet")[0][1]


def test_several_files_are_told_apart(tmp_path: Path) -> None:
    """A broken file loses no row of the next; bytes count over all of them."""
    (tmp_path / "a.csv").write_bytes(b"a\n1\n")
    (tmp_path / "b.parquet").write_bytes(b"broken")
    (tmp_path / "c.jsonl").write_bytes(b'{"a": "3"}\n')
    files = [tmp_path / name for name in ("a.csv", "b.parquet", "c.jsonl")]
    found = list(read_files(files, LIMIT))
    assert [(row.file, row.line, row.value) for row in found] == [
        (0, 2, {"a": "1"}),
        (1, 1, None),
        (2, 1, {"a": "3"}),
    ]
    # 4 + 6 + 11 bytes.
    assert found[-1].position == 21
