"""Reading SQLite text token by token, without parsing it.

A prediction is hostile text that may not parse at all, and SQLite accepts more than any parser of
ours. So what must be known before it runs (how many statements, does the outermost query order its
rows, does it read the clock, is a double-quoted word a name or a text) is answered from tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from retune.sql.guard import PURE_FUNCTIONS

_TOKEN = re.compile(
    r"""
    (?P<space>[\s\ufeff]+)  # SQLite passes over byte-order marks as well
  | (?P<comment>--[^\n]*|/\*.*?(?:\*/|\Z))
  | (?P<string>'[^']*(?:''[^']*)*(?:'|\Z))
  | (?P<double>"[^"]*(?:""[^"]*)*(?:"|\Z))
  | (?P<quoted>`[^`]*(?:``[^`]*)*(?:`|\Z)|\[[^\]]*(?:\]|\Z))
  | (?P<number>\d[\w.]*|\.\d[\w.]*)
  | (?P<word>[^\W\d][\w$]*)
  | (?P<operator><>|!=|==|<=|>=|\|\||<<|>>|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_PLAIN_NAME = re.compile(r"[^\W\d]\w*\Z")
_COMPARISONS = frozenset({"=", "==", "!=", "<>", "<", ">", "<=", ">="})
_BEFORE_VALUE = _COMPARISONS | {
    *("||", "like", "glob", "match", "regexp", "is", "not", "between", "when", "then", "else"),
    "escape",
}
_VALUES_FOLLOW = _BEFORE_VALUE | {"in", "values"}
_AGGREGATES = frozenset(
    {"count", "sum", "avg", "min", "max", "total", "group_concat", "string_agg"}
)
_DATE_FUNCTIONS = frozenset(
    {"date", "time", "datetime", "julianday", "unixepoch", "strftime", "timediff"}
)
_CLOCK_WORDS = frozenset({"current_timestamp", "current_date", "current_time"})
_RANDOM_FUNCTIONS = frozenset({"random", "randomblob"})
_BEFORE_KIND = frozenset(
    """
    temp temporary virtual or replace materialized global local unlogged external foreign
    transient recursive
    """.split()  # noqa: SIM905 - a list of thirteen lines reads worse
)
_ENDS_BOUND = frozenset({"and", "or", "where", "on", "having", "when", "then", ";"})
_MOST_BOUND = 40  # tokens that the lower bound of BETWEEN may take
_MODIFIERS = frozenset({"auto", "julianday", "localtime", "subsec", "unixepoch", "utc"})
"""Texts behind the time value of a date function that look like names."""


class Token(NamedTuple):
    """One piece of SQL text that is neither white space nor a comment.

    `text` is as written, `folded` lower-cased for comparing, `start` its offset, `depth` the
    number of open parentheses around it, `opener` what stands before the innermost of them.
    """

    kind: str
    text: str
    folded: str
    start: int
    depth: int
    opener: str


class Creation(NamedTuple):
    """A statement that creates something with columns.

    `kind` is `table`, `view` or `virtual`, `text` as it stands, without a semicolon.
    """

    kind: str
    text: str
    tokens: list[Token]


def read_tokens(sql: str) -> list[Token]:
    """Split SQL into tokens; never fails, whatever the text is.

    Args:
        sql: Any text.

    Returns:
        The tokens in order, without white space and comments.
    """
    tokens: list[Token] = []
    openers: list[str] = []
    for match in _TOKEN.finditer(sql):
        kind, text = match.lastgroup or "operator", match.group()
        if kind in ("space", "comment"):
            continue
        if text == ")" and openers:
            openers.pop()
        folded = text.lower() if kind in ("word", "operator") else text
        opener = openers[-1] if openers else ""
        tokens.append(Token(kind, text, folded, match.start(), len(openers), opener))
        if text == "(":
            openers.append(tokens[-2].folded if len(tokens) > 1 else "")
    return tokens


def split_statements(tokens: Sequence[Token]) -> list[list[Token]]:
    """Group tokens into statements at each semicolon; empty statements are left out."""
    statements: list[list[Token]] = [[]]
    for token in tokens:
        if token.text == ";":
            statements.append([])
        else:
            statements[-1].append(token)
    return [statement for statement in statements if statement]


def read_creations(script: str) -> list[Creation]:
    """Take the statements that create tables and views out of a script.

    Args:
        script: SQL, which may fill the tables as well.

    Returns:
        The statements as they stand, in their order.
    """
    found = []
    for tokens in _split_creations(read_tokens(script)):
        kind = _kind_created(tokens)
        if kind:
            end = tokens[-1].start + len(tokens[-1].text)
            found.append(Creation(kind, script[tokens[0].start : end], tokens))
    return found


def _split_creations(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """Yield statements; a CREATE ends the one before it, also without a semicolon.

    Schemas in prompts often have nothing but an empty line, or a comma, between their tables.
    """
    for statement in split_statements(tokens):
        start, creates = 0, statement[0].folded == "create"
        for at, token in enumerate(statement):
            if (
                creates
                and at
                and token.folded == "create"
                and _kind_created(statement[at : at + 6])
            ):
                comma = statement[at - 1].text == ","
                yield statement[start : at - comma]
                start = at
        yield statement[start:]


def _kind_created(tokens: Sequence[Token]) -> str:
    if not tokens or tokens[0].folded != "create":
        return ""
    words = [token.folded for token in tokens[1:6]]
    kind = next((word for word in words if word not in _BEFORE_KIND), "")
    if kind == "table" and "virtual" in words[: words.index(kind)]:
        return "virtual"
    return kind if kind in ("table", "view") else ""


def orders_rows(tokens: Sequence[Token]) -> bool:
    """Say whether the outermost query has an ORDER BY.

    One in a subquery, a common table expression or a window stands inside parentheses and does
    not order the result.
    """
    return any(
        first.folded == "order" and second.folded == "by" and first.depth == 0
        for first, second in pairwise(tokens)
        if first.kind == second.kind == "word"
    )


def is_deterministic(tokens: Sequence[Token]) -> bool:
    """Say whether a query can only ever give one result on one database.

    It cannot when it reads the clock (`current_date`, `date('now')`, `date()`, `strftime('%Y')`)
    or draws random numbers.
    """
    calls: list[_Call] = []
    for at, token in enumerate(tokens):
        before = tokens[at - 1] if at else None
        if token.text == ")":
            ended = calls.pop() if calls else _Call("")
            if ended.reads_clock:
                return False
            if calls:
                calls[-1].says_now |= ended.says_now
            continue
        if calls:
            calls[-1].take(token)
        if token.text == "(":
            name = before.folded if before is not None and before.kind == "word" else ""
            if name in _RANDOM_FUNCTIONS:
                return False
            calls.append(_Call(name))
        # `t.current_date` is a column, and so would be a quoted one (another kind of token).
        is_clock = token.kind == "word" and token.folded in _CLOCK_WORDS
        if is_clock and (before is None or before.text != "."):
            return False
    return not any(call.reads_clock for call in _close(calls))


@dataclass
class _Call:
    """What stands in an open parenthesis; kept while tokens go by, so that nesting stays cheap."""

    name: str
    is_empty: bool = True
    has_comma: bool = False
    says_now: bool = False

    def take(self, token: Token) -> None:
        self.is_empty = False
        self.has_comma |= token.text == ","
        if token.kind in ("string", "double"):
            self.says_now |= token.text[1:-1].strip().lower() == "now"

    @property
    def reads_clock(self) -> bool:
        if self.name not in _DATE_FUNCTIONS:
            return False
        # Without a time value SQLite takes the present; strftime's first argument is the format.
        too_few = not self.has_comma if self.name == "strftime" else self.is_empty
        return too_few or self.says_now


def _close(calls: list[_Call]) -> list[_Call]:
    """Close what the text leaves open, the innermost first."""
    for outer, inner in zip(reversed(calls[:-1]), reversed(calls), strict=False):
        outer.says_now |= inner.says_now
    return calls


def name_double_quoted(sql: str, tokens: Sequence[Token]) -> str:
    """Turn double-quoted names into back-quoted ones, so that a misspelt name fails.

    SQLite reads `"colunm"` as the text 'colunm' when no such column exists, so that
    `count("colunm")` counts rows. Python 3.11 cannot switch that off (`setconfig` came with
    3.12), but a back-quoted name is never a text. Double quotes stay only where a text is meant
    by place: `find_texts`. There SQLite decides as it always did: real golds write so.

    Args:
        sql: The statement.
        tokens: Its tokens.

    Returns:
        The statement with those names back-quoted and everything else as it was.
    """
    texts = find_texts(tokens)
    pieces, done = [], 0
    for token in tokens:
        if token.kind == "double" and token.start not in texts:
            name = token.text[1:].removesuffix('"').replace('""', '"')
            pieces += [sql[done : token.start], "`", name.replace("`", "``"), "`"]
            done = token.start + len(token.text)
    return "".join([*pieces, sql[done:]])


def find_texts(tokens: Sequence[Token]) -> set[int]:
    """Find the double-quoted words that stand where a text is meant.

    After a comparison, LIKE, BETWEEN, WHEN, THEN, ELSE or `||`, also in parentheses or a tuple; in
    an IN list; against a name on the other side of a comparison; and as a function's argument. An
    aggregate's first one, and those of date functions, only when it is no plain name: the column
    of `count("colunm")` and `date("colunm")` is a slip.

    Args:
        tokens: Of one statement.

    Returns:
        Their offsets.
    """
    found: set[int] = set()
    values = [False]  # for each open parenthesis: do values stand in it?
    for at, token in enumerate(tokens):
        before = tokens[at - 1].folded if at else ""
        starts_value = before in ("(", ",") and values[-1]
        if token.text == "(":
            values.append(before in _VALUES_FOLLOW or starts_value)
        elif token.text == ")" and len(values) > 1:
            values.pop()
        elif token.kind == "word" and token.folded in ("values", "select"):
            values[-1] = token.folded == "values"
        elif token.kind == "double" and (starts_value or _may_be_text(tokens, at, before)):
            found.add(token.start)
    return found


def _may_be_text(tokens: Sequence[Token], at: int, before: str) -> bool:
    if before in _BEFORE_VALUE or _ends_between(tokens, at) or _faces_a_name(tokens, at):
        return True
    opener = tokens[at].opener
    if before not in ("(", ",") or opener not in PURE_FUNCTIONS:
        return False
    # No time value is a plain word, and what is counted or summed up is a column.
    word = tokens[at].text[1:-1]
    if opener in _DATE_FUNCTIONS and before == "," and word.lower() in _MODIFIERS:
        return True
    takes_column = opener in _DATE_FUNCTIONS or (opener in _AGGREGATES and before == "(")
    return not (takes_column and _PLAIN_NAME.match(word))


def _ends_between(tokens: Sequence[Token], at: int) -> bool:
    """Tell whether a token is the upper bound of BETWEEN; the lower one may be any expression."""
    if at < 3 or tokens[at - 1].folded != "and":
        return False
    for token in reversed(tokens[max(0, at - _MOST_BOUND) : at - 1]):
        if token.depth < tokens[at].depth or (
            token.depth == tokens[at].depth and token.folded in _ENDS_BOUND
        ):
            return False
        if token.depth == tokens[at].depth and token.folded == "between":
            return True
    return False


def _faces_a_name(tokens: Sequence[Token], at: int) -> bool:
    # "France" = country: which side is the text only SQLite can tell, so it may.
    if at + 2 >= len(tokens) or tokens[at + 1].folded not in _COMPARISONS:
        return False
    return tokens[at + 2].kind in ("word", "quoted")
