"""What generators of sites write into Markdown beyond Markdown, as plain Markdown.

Admonitions and tabs of MkDocs (``!!! note``), containers (``:::tip``), directives of MyST and
reStructuredText, imports and components of MDX, tags of Jekyll and Hugo. Their words stay; the
signs around them go. Fenced listings are not touched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_FENCE = re.compile(r"( *)(`{3,}|~{3,})(.*)$")
_INDENTED = re.compile(r"( {0,3})(?:!!!|\?\?\?\+?) *([\w-]+(?: +[\w-]+)*)? *(\"[^\"]*\")? *$")
_TAB = re.compile(r"( {0,3})===[!+]? +\"([^\"]*)\" *$")
_CONTAINER = re.compile(r" {0,3}:{3,} *(?:\{?[.]?([\w-]+)\}?)? *(?:\[([^\]]*)\]|(.*?)) *:* *$")
_DIRECTIVE = re.compile(r"( {0,3})\.\. +([\w:+.-]+):: *(.*)$")
_TARGET = re.compile(r" {0,3}\.\.( +_.*:.*| *)$")
_IMPORT = re.compile(r"import\s+(?:[\w*{}\s,$]+\s+from\s+)?[\"'][^\"']+[\"'];?\s*$")
_EXPORT = re.compile(r"export\s+(?:const|default|let|var|function|class)\b")
_COMPONENT = re.compile(r"\s*(?:</?[A-Z][\w.]*(?:\s[^<>]*)?/?>\s*)+$")
_COMPONENT_OPENS = re.compile(r"\s*<[A-Z][\w.]*(?:\s[^<>]*)?$")
_COMPONENT_TAG = re.compile(r"<(/?)[A-Z][\w.]*[^<>]*?(/?)>")
_TEMPLATE = re.compile(
    r"\s*(?:\{%-?.*-?%\}|\{\{[<%].*[>%]\}\}|\{:.*\}|\{/\*.*\*/\}|\[TOC\]|\[\[_TOC_\]\])\s*$"
)
_LIQUID_LISTING = re.compile(r"\s*\{%-?\s*highlight\s+(\S+).*%\}\s*$")
_LIQUID_END = re.compile(r"\s*\{%-?\s*endhighlight\s*-?%\}\s*$")
_OPTION = re.compile(r" *:[\w-]+:( .*)?$")

_LISTINGS = frozenset({"code-block", "sourcecode", "code", "code-cell", "parsed-literal", "prompt"})
_SILENT = frozenset(
    {
        *("toctree", "contents", "index", "include", "literalinclude", "currentmodule", "module"),
        *(
            "highlight",
            "meta",
            "image",
            "default-role",
            "sectnum",
            "only",
            "automodule",
            "autoclass",
        ),
        *("autofunction", "autosummary", "raw"),
    }
)
_CELLS = frozenset({"python", "r", "julia", "bash", "sql", "js", "ojs"})
"""Languages of cells that Quarto and R Markdown run; their listings are listings."""
_LONGEST_TAG = 20
"""Lines of a component's tag."""


def plain_markdown(text: str) -> str:
    """Return a page as plain Markdown.

    Args:
        text: Markdown as its generator wants it, with line feeds at the ends of lines.

    Returns:
        The same words; lines that only say something to the generator are empty.
    """
    return "\n".join(_Lines(text.split("\n")).rewritten())


class _Lines:
    """The lines of a page, read from the first to the last."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._place = 0
        self._components = 0

    def rewritten(self) -> Iterator[str]:
        while self._place < len(self._lines):
            line = self._lines[self._place]
            self._place += 1
            yield from self._rewrite(line)

    def _rewrite(self, line: str) -> Iterator[str]:
        fence = _FENCE.match(line)
        if fence and not (fence.group(2)[0] == "`" and "`" in fence.group(3)):
            yield from self._fenced(line, fence)
            return
        if (found := _INDENTED.match(line)) and (found.group(2) or found.group(3)):
            kind = (found.group(2) or "").partition(" ")[0]
            title = found.group(3).strip('"') if found.group(3) else kind
            yield from self._titled(title, len(found.group(1)))
            return
        elif found := _TAB.match(line):
            yield from self._titled(found.group(2), len(found.group(1)))
            return
        elif found := _DIRECTIVE.match(line):
            yield from self._directive(found)
            return
        yield from self._line(line)

    def _line(self, line: str) -> Iterator[str]:
        if line.startswith(("    ", "\t")) and not self._components:
            # An indented listing, or the inside of a list item.
            yield line
        elif line.lstrip().startswith(":::") and (found := _CONTAINER.match(line)):
            title = (found.group(2) or found.group(3) or found.group(1) or "").strip(" {}")
            yield from ("", title, "")
        elif _TARGET.match(line):
            self._indented(len(line) - len(line.lstrip()))
            yield ""
        elif listing := _LIQUID_LISTING.match(line):
            yield from _listing(listing.group(1), self._until(_LIQUID_END))
        elif self._speaks_to_machines(line):
            yield ""
        elif line.startswith("    "):
            # Inside components indents only please the eye: MDX has no indented listings.
            yield line.lstrip()
        else:
            yield line

    def _speaks_to_machines(self, line: str) -> bool:
        if _IMPORT.match(line) or _TEMPLATE.match(line):
            return True
        if _EXPORT.match(line):
            while self._place < len(self._lines) and self._lines[self._place].strip():
                self._place += 1
            return True
        if _COMPONENT.match(line):
            self._count_components(line)
            return True
        return bool(_COMPONENT_OPENS.match(line)) and self._skip_tag(line)

    def _skip_tag(self, line: str) -> bool:
        """Pass over a component's tag of several lines, if it is one."""
        for length in range(1, _LONGEST_TAG):
            following = self._lines[self._place : self._place + length]
            if len(following) < length or not following[-1].strip():
                return False
            if following[-1].rstrip().endswith(">"):
                self._place += length
                self._count_components(" ".join([line, *following]))
                return True
        return False

    def _count_components(self, tags: str) -> None:
        for closes, empty in _COMPONENT_TAG.findall(tags):
            self._components += 0 if empty else -1 if closes else 1
        self._components = max(0, self._components)

    def _fenced(self, line: str, fence: re.Match[str]) -> Iterator[str]:
        indent, marks, info = len(fence.group(1)), fence.group(2), fence.group(3).strip()
        closing = re.compile(rf" *{marks[0]}{{{len(marks)},}}\s*$")
        start = self._place
        body = self._until(closing)
        closed = self._place > start and bool(closing.match(self._lines[self._place - 1]))
        end = [self._lines[self._place - 1]] if closed else []
        named = re.fullmatch(r"\{([\w:.-]+)\}\s*(.*)", info) if indent < 4 else None
        if named and named.group(1) not in _CELLS:
            yield from _myst(named.group(1), named.group(2), body)
        elif indent < 4 or not self._components:
            yield from [line, *body, *end]
        else:
            yield from (
                each[min(indent, len(each) - len(each.lstrip())) :] for each in [line, *body]
            )
            yield from (each.lstrip() for each in end)

    def _until(self, closing: re.Pattern[str]) -> list[str]:
        body: list[str] = []
        while self._place < len(self._lines):
            line = self._lines[self._place]
            self._place += 1
            if closing.match(line):
                break
            body.append(line)
        return body

    def _titled(self, title: str, indent: int) -> Iterator[str]:
        yield from _with_title(title, self._indented(indent, least=4))

    def _directive(self, found: re.Match[str]) -> Iterator[str]:
        indent, name, argument = len(found.group(1)), found.group(2), found.group(3).strip()
        yield from _myst(name, argument, self._indented(indent))

    def _indented(self, indent: int, least: int = 1) -> list[str]:
        """Take the lines that stand deeper than `indent`, without what they all are deeper by."""
        body: list[str] = []
        while self._place < len(self._lines):
            line = self._lines[self._place]
            if line.strip() and len(line.expandtabs(4)) - len(line.expandtabs(4).lstrip()) < (
                indent + least
            ):
                break
            body.append(line.expandtabs(4) if line.startswith("\t") else line)
            self._place += 1
        while body and not body[-1].strip():
            body.pop()
            self._place -= 1
        depths = [len(each) - len(each.lstrip()) for each in body if each.strip()]
        depth = min(depths, default=0)
        return [each[depth:] for each in body]


def _myst(name: str, argument: str, body: list[str]) -> Iterator[str]:
    """A directive of MyST or reStructuredText."""
    while body and (_OPTION.match(body[0]) or not body[0].strip()):
        body = body[1:]
    if name in _LISTINGS:
        yield from _listing(argument, body)
    elif name == "raw" and argument == "html":
        yield from ["", *body, ""]
    elif name in _SILENT:
        yield ""
    elif name in {"math", "doctest", "testcode", "mermaid", "graphviz", "productionlist"}:
        yield from _listing(name, [argument, *body] if argument else body)
    else:
        # A note says what it is; the words of a directive nobody knows stay words.
        title = argument or name if name not in {"figure", "admonition"} else argument
        yield from _with_title("" if name == "figure" else title, body)


def _with_title(title: str, body: list[str]) -> Iterator[str]:
    yield from ("", title, "")
    yield from _Lines(body).rewritten()
    yield ""


def _listing(language: str, body: list[str]) -> Iterator[str]:
    longest = max((len(run) for line in body for run in re.findall(r"`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    yield from ("", f"{fence}{language}", *body, fence, "")
