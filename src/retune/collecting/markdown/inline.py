"""Raw HTML inside of Markdown's own blocks: tags and comments go, their words stay."""

from __future__ import annotations

import re
from collections.abc import Sequence

from markdown_it.token import Token

from retune.collecting.html.elements import BLOCKS

_TAG = re.compile(r"</?([A-Za-z][\w-]*)(?=[\s/>])[^>]*>")
_COMMENT = re.compile(r"<!--.*?-->|<\?.*?\?>", re.S)
_INLINE = frozenset(
    {
        *("a", "abbr", "b", "bdi", "bdo", "big", "br", "button", "cite", "code", "data", "del"),
        *("dfn", "em", "font", "i", "img", "input", "ins", "kbd", "label", "mark", "picture", "q"),
        *("s", "samp", "small", "source", "span", "strike", "strong", "svg", "time", "tt", "u"),
        *("var", "wbr", "center", "iframe", "video"),
    }
)
# Raised and lowered signs mean something and are Markdown as it is.
_KNOWN = (_INLINE | BLOCKS) - {"sub", "sup"}


def without_tags(source: str, tokens: Sequence[Token], first_line: int) -> str:
    """Return a block of Markdown without raw HTML.

    Args:
        source: The block as it was written.
        tokens: What the parser found in it.
        first_line: The page's line at which it begins.

    Returns:
        The same words; code and names in angle brackets that are no HTML stay as they are.
    """
    starts = [0]
    for line in source.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    parts: list[str] = []
    done = 0

    def go_to(line: int) -> None:
        nonlocal done
        start = min(starts[max(0, min(line - first_line, len(starts) - 1))], len(source))
        if start > done:
            parts.append(source[done:start])
            done = start

    in_table = any(token.type == "table_open" for token in tokens)
    for token in tokens:
        if token.type in {"fence", "code_block"} and token.map:
            go_to(token.map[1])
        elif token.type == "html_block" and token.map:
            go_to(token.map[0])
            end = min(starts[min(token.map[1] - first_line, len(starts) - 1)], len(source))
            parts.append(_TAG.sub(_replacement, _COMMENT.sub("", source[done:end])))
            done = end
        elif token.type == "inline":
            if token.map:
                go_to(token.map[0])
            for child in token.children or []:
                found = source.find(child.content, done) if child.content else -1
                if found < 0 or child.type not in {"html_inline", "code_inline"}:
                    continue
                end = found + len(child.content)
                html = child.type == "html_inline"
                parts.append(source[done:found])
                parts.append(_inline(child.content, in_table) if html else child.content)
                done = end
    return "".join([*parts, source[done:]])


def _inline(tag: str, in_table: bool) -> str:
    if _COMMENT.fullmatch(tag):
        return ""
    found = _TAG.fullmatch(tag)
    if found and found.group(1).lower() == "br":
        return " " if in_table else "\n"
    return _replacement(found) if found else tag


def _replacement(tag: re.Match[str]) -> str:
    name = tag.group(1).lower()
    if name not in _KNOWN:
        return tag.group()
    return " " if name in BLOCKS else ""
