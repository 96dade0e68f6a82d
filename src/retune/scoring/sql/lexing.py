"""Reading SQLite text token by token, without parsing it.

A prediction is hostile text that may not parse at all, and SQLite accepts more than any parser of
ours. So what must be known before it runs (how many statements, does the outermost query order its
rows, does it read the clock, is a double-quoted word a name or a text) is answered from tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
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
    *("||", "like", "glob", "match", "regexp", "is", "not", "between", "then", "else", "escape")
}
_LISTS_OF_VALUES = frozenset({"in", "values"})
_AGGREGATES = frozenset({"count", "sum", "avg", "min", "max", "total", "group_concat"})
_DATE_FUNCTIONS = frozenset(
    {"date", "time", "datetime", "julianday", "unixepoch", "strftime", "timediff"}
)
_CLOCK_WORDS = frozenset({"current_timestamp", "current_date", "current_time"})
_RANDOM_FUNCTIONS = frozenset({"random", "randomblob"})


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
    by place: after a comparison, LIKE, BETWEEN, THEN, ELSE or `||`, in an IN list, against a
    name on the other side of a comparison, or as a function's argument that is no plain name
    (`strftime("%Y", day)`). There SQLite decides as it always did: real golds write so.

    Args:
        sql: The statement.
        tokens: Its tokens.

    Returns:
        The statement with those names back-quoted and everything else as it was.
    """
    pieces, done = [], 0
    for at, token in enumerate(tokens):
        if token.kind == "double" and not _may_be_text(tokens, at):
            name = token.text[1:].removesuffix('"').replace('""', '"')
            pieces += [sql[done : token.start], "`", name.replace("`", "``"), "`"]
            done = token.start + len(token.text)
    return "".join([*pieces, sql[done:]])


def _may_be_text(tokens: Sequence[Token], at: int) -> bool:
    token = tokens[at]
    before = tokens[at - 1].folded if at else ""
    if before in _BEFORE_VALUE or _ends_between(tokens, at) or _faces_a_name(tokens, at):
        return True
    if before in ("(", ","):
        if token.opener in _LISTS_OF_VALUES:
            return True
        is_call = _calls_function(token.opener)
        return is_call and not _PLAIN_NAME.match(token.text[1:-1])
    return False


def _calls_function(opener: str) -> bool:
    """Say whether the word before a parenthesis calls a function that takes texts."""
    is_name = bool(_PLAIN_NAME.match(opener))
    keywords = {"in", "values", "and", "or", "not", "on", "where", "by", "from", "select", "as"}
    return is_name and opener not in keywords and opener not in _AGGREGATES


def _ends_between(tokens: Sequence[Token], at: int) -> bool:
    return at > 2 and tokens[at - 1].folded == "and" and tokens[at - 3].folded == "between"


def _faces_a_name(tokens: Sequence[Token], at: int) -> bool:
    # "France" = country: which side is the text only SQLite can tell, so it may.
    if at + 2 >= len(tokens) or tokens[at + 1].folded not in _COMPARISONS:
        return False
    return tokens[at + 2].kind in ("word", "quoted")
