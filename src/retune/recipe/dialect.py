"""The YAML that a recipe is written in: that of version 1.2, as editors read it.

`2e-4` is a number; `no`, `on` and `1:30` are text. PyYAML's own rules (1.1) read the first as text
and the others as booleans and as 90. Aliases are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import yaml

TAG = "tag:yaml.org,2002:"
_MAX_DEPTH = 20


class RecipeLoader(yaml.SafeLoader):
    """PyYAML's composer with the types of YAML 1.2, without aliases and endless nesting."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 (PyYAML's own declaration)
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose one node, refusing what a recipe has no use for.

        Args:
            parent: Node that this one stands in.
            index: Position in the parent.

        Returns:
            The node.

        Raises:
            yaml.MarkedYAMLError: An alias, or nesting past the limit.
        """
        # Aliases also allow a few lines that expand to gigabytes.
        if self.check_event(yaml.AliasEvent):
            self._refuse("an alias (*name) is not allowed, write the value out")
        if self.depth > _MAX_DEPTH:
            self._refuse("nested too deep")
        self.depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def _refuse(self, problem: str) -> None:
        mark = self.peek_event().start_mark
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
):
    RecipeLoader.add_implicit_resolver(TAG + _name, re.compile(rf"^(?:{_pattern})$"), _first)


def _integer(text: str) -> int:
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


def _real(text: str) -> float:
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


def _text(text: str) -> str:
    # JSON writes letters past U+FFFF as two escapes, which PyYAML leaves apart.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


SCALARS: dict[str, Callable[[str], Any]] = {
    "null": lambda text: None,
    "bool": lambda text: text.lower() == "true",
    "int": _integer,
    "float": lambda text: _real(text.lower()),
    "str": _text,
}
"""How the text of a plain value of each type becomes the value; may raise ValueError."""
