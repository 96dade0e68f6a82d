"""Inputs drawn by hypothesis: good ones of the repository, changed as trees or as bytes.

An input is a file: its name says by its ending how it is read. What hypothesis draws is changes;
each draw is then made at several places and in several good inputs, since drawing takes ten times
as long as reading.
"""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

_LONG = 3_000
SCRAPS = (
    *(b"\0", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\xc3", b"\xed\xa0\x80", b"\x1f\x8b", b"PAR1"),
    *(b'"', b"'", b"\\", b"\\u", b"\\ud800", b"[", b"]", b"{", b"}", b"(", b")", b"<", b">", b"`"),
    *(b",", b";", b"\t", b"|", b"\r", b"\n", b"\n\n", b": ", b"- ", b"#", b"//", b"...", b"---\n"),
    *(b"&a ", b"*a", b"!!python/object:os.system ", b"<<: ", b"? ", b"%YAML 1.1\n---\n", b"~"),
    *(b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"0x", b"1:30", b"9" * 5_000),
    *(b"[" * _LONG, b"(" * _LONG, b"{" * _LONG, b'{"a":' * _LONG, b"- " * _LONG, b"<div>" * _LONG),
    *(b"x" * 900, b"> " * 500, b"*" * _LONG, b"`" * _LONG, b"<!--", b"]]>", b"&amp;", b"&#xD800;"),
    *("é日🚲\u202e\u200b\u2028".encode(), b"=1+1", b"sep=;", b"%s{0}${x}", b"\x1b[31m", b"\x1a"),
    *(b"../../../etc/passwd", b"/dev/null", b"file:///", b"http://[", b"a" * 300 + b"/b", b"~x/"),
    *(b"{{ ", b" }}", b"{% for a in range(99999) %}", b"{% endfor %}", b"{%", b"{#", b"#}"),
    *(b"{{ x.__class__.__mro__ }}", b"{{ messages | tojson * 99 }}", b"{% macro m() %}{{ m() }}"),
    *(b"SELECT ", b" FROM ", b" WHERE ", b" UNION ", b"; DROP TABLE t", b"```sql\n", b"\n```"),
)
"""What is put in, or written over a part."""

_SCALARS: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 0.5, 2, 10**18, 10**400, -(2**63), 1e308, 5e-324),
    *(float("nan"), float("inf"), "", " ", "\0", "\ud800", "a\nb", "é", "\u202e", "x" * 5_000),
    *("no", "null", "1e-4", "0x1f", "2026-08-03", "12:30", "...", "[]", "{}", "*", "&a", "!!x"),
    *(
        "../../etc/passwd",
        "/",
        "/dev/null",
        "~",
        "~nobody/x",
        "a\0b",
        "a" * 300,
        "http://[",
        "s3://",
    ),
    *(
        "sqlite://",
        "file:///x",
        "https://u:p@h",
        "hub/name",
        "C:\\x",
        "%",
        "{x}",
        "{",
        "}",
        "${HOME}",
    ),
    *("{{ messages }}", "{{ x.__class__ }}", "{{ 'x' * 9999 }}", "{% set a = messages[99] %}"),
    *(
        "{{ 1 / 0 }}",
        "{{ namespace() }}",
        "{{ messages[0].content | int(base='x') }}",
        "{{ m.y.z }}",
    ),
    *("{% if tools %}x{% endif %}", "{{ raise_exception('x') }}", "{% for a in range(9) %}{{ a }}"),
    *(
        "{% generation %}",
        "{% endgeneration %}",
        "{% endfor %}",
        "{% break %}",
        "{{ 'é' | tojson }}",
    ),
    *(
        "{{ '%999d' % 1 }}",
        "{{ '{:>999}'.format(1) }}",
        "{{ strftime_now('%Q') }}",
        "{% include 'a' %}",
    ),
    *("<table>", "<tr><td colspan=9999999 rowspan=9999999>", "<pre>", "</body>", "<svg><script>"),
    *("SELECT", "FROM t", "(SELECT 1)", "WITH RECURSIVE r AS (SELECT 1 UNION ALL SELECT * FROM r)"),
    *(
        "randomblob(999999999)",
        "load_extension('x')",
        "ATTACH '/etc/passwd' AS p",
        "printf('%.*c', 1e9)",
    ),
    *(".*", "(", "[", "\\", "(a+)+$", "<script>", "'; DROP TABLE t; --", "auto", "all", "lora"),
)
_KEYS = (
    *(
        "",
        " ",
        "a",
        "kind",
        "name",
        "path",
        "format",
        "columns",
        "weight",
        "id",
        "input",
        "language",
    ),
    *("question", "answer", "messages", "role", "content", "text", "label", "chosen", "rejected"),
    *(
        "seed",
        "epochs",
        "__class__",
        "folder",
        "digest",
        "files",
        "record",
        "\0",
        "\ud800",
        "é" * 99,
    ),
)


@dataclass(frozen=True)
class Input:
    """A file that is read.

    Attributes:
        name: Its name.
        content: Its bytes.
    """

    name: str
    content: bytes

    def __repr__(self) -> str:
        # Hypothesis asks for it, and writes all of a megabyte.
        return f"Input({self.name!r}, {len(self.content)} bytes)"


Seeds = Sequence[Input]


def _tree() -> st.SearchStrategy[Any]:
    return st.recursive(
        st.sampled_from(_SCALARS),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(_KEYS), inner, max_size=3)
        ),
        max_leaves=5,
    )


_VALUES = st.one_of(st.sampled_from(_SCALARS), st.text(max_size=12), _tree())
_PLACES = st.integers(0, 1 << 20)
_TREE_CHANGES = st.tuples(
    st.sampled_from(("set", "drop", "rename", "add", "list", "nest", "swap", "twice")),
    _PLACES,
    _PLACES,
    _VALUES,
)
_BYTE_CHANGES = st.tuples(
    st.sampled_from(("put", "put", "over", "cut", "twice", "flip", "graft")),
    _PLACES,
    st.sampled_from((0, 1, 2, 8, 40, 300)),
    st.one_of(
        st.sampled_from(SCRAPS),
        st.binary(max_size=6),
        st.text(max_size=6).map(lambda text: text.encode("utf-8", "surrogatepass")),
    ),
)


AT_ONCE = 10
"""Inputs of one draw."""
_STEP = 7_919
"""Places of one draw differ by multiples of this: a prime, so that no list's length divides it."""


def inputs(
    seeds: Seeds, read_tree: Callable[[Input], Any] | None = None
) -> st.SearchStrategy[list[Input]]:
    """Return a strategy of inputs, `AT_ONCE` at a time.

    Args:
        seeds: Good inputs.
        read_tree: Reads one into lists and mappings, of which a part is changed; what comes out is
            written as JSON, which every YAML reader reads too. None where there is no such thing,
            and of an input that has none.
    """
    read = [(each, read_tree(each)) for each in seeds] if read_tree else []
    trees = [(each, tree) for each, tree in read if tree is not None]

    def as_bytes(drawn: Any) -> list[Input]:
        first, changes = drawn
        found = []
        for number in range(AT_ONCE):
            seed = seeds[(first + number) % len(seeds)]
            moved = [
                (kind, at + number * _STEP, width, scrap) for kind, at, width, scrap in changes
            ]
            found.append(Input(seed.name, _change_bytes(seed.content, moved, seeds)))
        return found

    def as_trees(drawn: Any) -> list[Input]:
        first, changes, then = drawn
        found = []
        for number in range(AT_ONCE):
            seed, tree = trees[(first + number) % len(trees)]
            moved = [
                (kind, at + number * _STEP, other + number, copy.deepcopy(value))
                for kind, at, other, value in changes
            ]
            text = write_tree(_change_tree(copy.deepcopy(tree), moved), seed.name)
            found.append(Input(seed.name, _packed(seed.name, _change_bytes(text, then, seeds))))
        return found

    of_bytes = st.tuples(_PLACES, st.lists(_BYTE_CHANGES, min_size=1, max_size=4)).map(as_bytes)
    if not trees:
        return of_bytes
    of_trees = st.tuples(
        _PLACES,
        st.lists(_TREE_CHANGES, min_size=1, max_size=2),
        st.one_of(st.just([]), st.just([]), st.lists(_BYTE_CHANGES, max_size=1)),
    ).map(as_trees)
    return st.one_of(of_trees, of_bytes)


def write_tree(tree: Any, name: str) -> bytes:
    """Write a tree as JSON, or as lines of it where the name says so."""
    if name.endswith((".jinja", ".html", ".xhtml", ".md", ".xml", ".txt")):
        parts = tree if isinstance(tree, list) else [tree]
        return "".join(map(str, parts)).encode("utf-8", "surrogatepass")
    if (".jsonl" in name or ".ndjson" in name) and isinstance(tree, list):
        return "\n".join(map(json.dumps, tree)).encode() + b"\n"
    return json.dumps(tree, indent=1 if len(name) % 2 else None).encode()


def _packed(name: str, content: bytes) -> bytes:
    return gzip.compress(content, 1, mtime=0) if name.endswith(".gz") else content


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container with every key in it."""
    if isinstance(tree, dict | list):
        for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
            yield tree, key
            yield from _places(tree[key])


def _change_tree(tree: Any, changes: Sequence[tuple[str, int, int, Any]]) -> Any:
    for kind, place, other, value in changes:
        places = list(_places(tree))
        if not places:
            return value
        holder, key = places[place % len(places)]
        second, second_key = places[other % len(places)]
        match kind:
            case "set":
                holder[key] = value
            case "drop":
                del holder[key]
            case "rename" if isinstance(holder, dict):
                names = [*_KEYS, *(each for _, each in places if isinstance(each, str))]
                holder[names[other % len(names)]] = holder.pop(key)
            case "add" if isinstance(holder, dict):
                holder[_KEYS[other % len(_KEYS)]] = value
            case "add" | "rename":
                holder.append(value)
            case "list":
                holder[key] = [holder[key], value]
            case "nest":
                holder[key] = {"a": holder[key]}
            case "swap":
                found = copy.deepcopy(second[second_key])
                holder[key] = found
            case _:
                if isinstance(holder, list):
                    holder.insert(key, copy.deepcopy(holder[key]))
    return tree


def _change_bytes(content: bytes, changes: Sequence[Any], seeds: Seeds) -> bytes:
    for kind, place, width, scrap in changes:
        at = place % (len(content) + 1)
        rest = content[at + width :]
        match kind:
            case "put":
                content = content[:at] + scrap + content[at:]
            case "over":
                content = content[:at] + scrap + rest
            case "cut":
                content = content[:at] + rest if width else content[:at]
            case "twice":
                content = content[: at + width] + content[at:]
            case "flip" if at < len(content):
                content = content[:at] + bytes([content[at] ^ (1 << place % 8)]) + content[at + 1 :]
            case "graft":
                other = seeds[place % len(seeds)].content
                begin = place % (len(other) + 1)
                content = content[:at] + other[begin : begin + width] + rest
    return content
