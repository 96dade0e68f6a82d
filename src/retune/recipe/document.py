"""Reads YAML into plain values and remembers the line of every key.

Tags and keys that stand twice are refused: a recipe means what a person reads in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from retune.errors import ConfigError
from retune.recipe.credentials import masked
from retune.recipe.dialect import SCALARS, TAG, RecipeLoader
from retune.recipe.problems import KeyPath, Place, Problem, dotted
from retune.text_files import read_text_file

# A recipe has a few kilobytes; more is another file, such as weights, named by mistake.
_MAX_FILE_BYTES = 1_000_000


@dataclass(slots=True)
class Document:
    """A recipe as written, while it is read, translated and overridden.

    Args:
        source: File as the user named it.
        values: The written keys and values.
        places: Where each path was written.
        problems: What was found wrong so far.
        refused: Paths that are missing because what was written for them is refused already.
    """

    source: str
    values: dict[str, Any] = field(default_factory=dict)
    places: dict[KeyPath, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    refused: set[KeyPath] = field(default_factory=set)

    def place(self, path: KeyPath) -> Place:
        """Find where a path, or the nearest section above it, was written.

        Args:
            path: Keys from the top.

        Returns:
            The place; the first line of the file where nothing nearer is known.
        """
        for length in range(len(path), 0, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return Place(self.source, 1)

    def forget(self, path: KeyPath) -> None:
        """Drop the places of a path and of all below it.

        Args:
            path: Keys from the top.
        """
        for known in [each for each in self.places if each[: len(path)] == path]:
            del self.places[known]

    def section_of(self, path: Sequence[str]) -> dict[str, Any] | None:
        """Find the written section that a key stands in.

        Args:
            path: Keys of a single value.

        Returns:
            The section; empty where it is not written; None where something else stands there.
        """
        section: Any = self.values
        for key in path[:-1]:
            section = section.get(key)
            if section is None:
                return {}
            if not isinstance(section, dict):
                return None
        return dict(section)

    def put(self, path: tuple[str, ...], value: Any, place: Place) -> None:
        """Write a value, with the sections above it.

        Args:
            path: Keys from the top; nothing but sections may stand above the last one.
            value: Value to write.
            place: Where it comes from.
        """
        section = self.values
        for key in path[:-1]:
            if section.get(key) is None:
                section[key] = {}
            section = section[key]
        section[path[-1]] = value
        self.places[path] = place

    def take(self, path: tuple[str, ...]) -> Any:
        """Remove a written key with all below it.

        Args:
            path: Keys from the top.

        Returns:
            What stood there.
        """
        section = self.values
        for key in path[:-1]:
            section = section[key]
        self.forget(path)
        return section.pop(path[-1])


def read_document(path: Path) -> Document:
    """Read a recipe file into values with their lines.

    Args:
        path: File as the user named it.

    Returns:
        The document; problems that do not stop the reading stand in it.

    Raises:
        ConfigError: The file is missing, no file, too large, no UTF-8, empty, broken YAML, or
            holds something other than keys with values.
    """
    source = str(path)
    node = _compose(_text_of(path), source)
    if node is None:
        raise ConfigError(f"{source} is empty; expected a recipe: keys with values, such as name:")
    document = Document(source)
    if not isinstance(node, yaml.MappingNode):
        found = "a list" if isinstance(node, yaml.SequenceNode) else "a single value"
        raise ConfigError(
            f"{source}:{node.start_mark.line + 1}: found {found} at the top level; expected keys "
            "with values, such as name: and data:"
        )
    document.values = _value_of(node, (), document)
    return document


def parse_value(text: str, path: KeyPath, document: Document) -> Any:
    """Read one value as a recipe would.

    Args:
        text: YAML, as it stands after the `=` of an override.
        path: Where the value will stand; problems name it.
        document: Takes the problems that do not stop the reading.

    Returns:
        The value; None for an empty text.

    Raises:
        ConfigError: The text is no YAML.
    """
    node = _compose(text, document.source)
    return None if node is None else _value_of(node, path, document)


def _text_of(path: Path) -> str:
    try:
        if path.is_dir():
            raise ConfigError(f"{path} is a folder; expected a recipe file (.yaml)")
        if not path.exists():
            raise ConfigError(f"there is no file {path}; expected a recipe file (.yaml)")
        if not path.is_file() or path.stat().st_size > _MAX_FILE_BYTES:
            raise ConfigError(f"{path} is no text file of under 1 MB; expected a recipe (.yaml)")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    return read_text_file(path, ConfigError)


def _compose(text: str, source: str) -> yaml.Node | None:
    try:
        loader = RecipeLoader(text)
        try:
            return loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        # `from None`: PyYAML's message quotes the line, which may hold a secret.
        raise ConfigError(_broken(error, source)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            f"{source}:{line}: the character {error.character!r} is not allowed in YAML; remove it"
        ) from None


def _broken(error: yaml.MarkedYAMLError, source: str) -> str:
    mark = error.problem_mark or error.context_mark
    where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
    context = f" ({error.context})" if error.context else ""
    return masked(
        f"{where}: broken YAML: {error.problem}{context}; look at this line and the one above: "
        "indent with spaces (no tabs), put a space after each colon, close every quote and bracket"
    )


def _value_of(node: yaml.Node, path: KeyPath, document: Document) -> Any:
    if isinstance(node, yaml.MappingNode) and node.tag == TAG + "map":
        return _mapping(node, path, document)
    if isinstance(node, yaml.SequenceNode) and node.tag == TAG + "seq":
        return [_value_of(item, (*path, at), document) for at, item in enumerate(node.value)]
    kind = node.tag.removeprefix(TAG)
    if not isinstance(node, yaml.ScalarNode) or kind not in SCALARS:
        text = f"the tag {node.tag!r} is not allowed; write a plain value"
        document.problems.append(Problem(_place_of(node, path, document), dotted(path), text))
        return None
    try:
        return SCALARS[kind](node.value)
    except ValueError:
        text = f"cannot be read as {kind}; write a plain value"
        document.problems.append(Problem(_place_of(node, path, document), dotted(path), text))
        return None


def _mapping(node: yaml.MappingNode, path: KeyPath, document: Document) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode) or not key_node.value.isprintable():
            text = "a key that is no plain word is not allowed"
            document.problems.append(Problem(_place_of(key_node, path, document), "", text))
            continue
        here = (*path, str(key_node.value))
        place = _place_of(key_node, here, document)
        if key_node.value in values:
            text = f"stands twice (first at {document.places[here]}); remove one"
            document.problems.append(Problem(place, dotted(here), text))
            continue
        document.places[here] = place
        values[key_node.value] = _value_of(value_node, here, document)
    return values


def _place_of(node: yaml.Node, path: KeyPath, document: Document) -> Place:
    # The value of an override was composed apart: its line is that of no file.
    for length in range(1, len(path) + 1):
        known = document.places.get(path[:length])
        if known is not None and known.line is None:
            return known
    return Place(document.source, node.start_mark.line + 1)
