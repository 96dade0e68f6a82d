"""Reading probe files: YAML with cases, counterfactual templates and paraphrases.

Every plain scalar is text (`no`, `192` and `2026-08-03` are words that a list may name, no boolean,
number or date); only `null`, `~` and nothing are nothing. A key that stands twice is a problem: a
category that is written twice would lose the first half of its cases without a word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from retune.errors import DataError
from retune.text_files import read_text_file

SECTIONS = ("language", "categories", "counterfactuals", "paraphrases")
LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")


class ProbeFile(NamedTuple):
    """One file, taken apart."""

    path: Path
    language: str | None
    content: Mapping[str, Any]


class _TextLoader(yaml.SafeLoader):
    """YAML whose plain scalars are text or null."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} stands twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_KEPT = ("tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")
_TextLoader.yaml_implicit_resolvers = {
    first: [resolver for resolver in resolvers if resolver[0] in _KEPT]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_probe_files(paths: Sequence[Path], problems: list[str]) -> list[ProbeFile]:
    """Read files, or all `*.yaml` of folders by name.

    Args:
        paths: Files and folders.
        problems: What is wrong is appended here, each with its file.

    Returns:
        The files that could be read.
    """
    files = [file for path in paths for file in _files_of(path, problems)]
    read = [_read_file(file, problems) for file in files]
    return [file for file in read if file is not None]


def explain(where: str, error: ValidationError) -> list[str]:
    """Say what pydantic found, one line for each field.

    Args:
        where: File and case.
        error: From building a record.

    Returns:
        Lines that begin with `where`.
    """
    lines = []
    for problem in error.errors():
        field = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        lines.append(f"{where}: {field + ': ' if field else ''}{message}")
    return lines


def _files_of(path: Path, problems: list[str]) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(path.glob("*.yaml"))
    if not files:
        problems.append(f"{path}: found no *.yaml file; expected at least one probe file.")
    return files


def _read_file(path: Path, problems: list[str]) -> ProbeFile | None:
    try:
        # No unsafe tags: the loader is SafeLoader with fewer implicit types.
        content = yaml.load(read_text_file(path), Loader=_TextLoader)
    except DataError as error:
        problems.append(str(error))
        return None
    except yaml.YAMLError as error:
        problems.append(f"{path}: is not YAML: {' '.join(str(error).split())}")
        return None
    if not isinstance(content, Mapping) or not content or set(content) - set(SECTIONS):
        is_mapping = isinstance(content, Mapping)
        found = sorted(map(str, content)) if is_mapping else type(content).__name__
        problems.append(
            f"{path}: found {found} at the top; expected the key `categories` (cases), "
            "`counterfactuals` or `paraphrases`, and no other but `language`."
        )
        return None
    language = content.get("language")
    if language is not None and not (isinstance(language, str) and LANGUAGE.fullmatch(language)):
        problems.append(f"{path}: language: found {language!r}; expected a code as pt or pt-BR.")
        language = None
    return ProbeFile(path, language, content)
