"""Where the lines of a ledger lie: a file of the store, and tags of the registered model."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from retune.errors import ArtifactError
from retune.registry.ledger.lines import read_number
from retune.registry.mlflow_calls import is_absent, make_registered_model
from retune.whole_files import replacing

if TYPE_CHECKING:
    from mlflow import MlflowClient

_TAG = re.compile(r"retune\.ledger\.(?P<number>[0-9]{6,})(?:\.(?P<part>[0-9]+))?")
_PART_CHARACTERS = 4500
"""MLflow keeps 5,000 characters of a registered model's tag in a database other than SQLite."""


class LedgerFile:
    """A ledger as JSON Lines.

    Args:
        path: The file; need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[dict[int, str], bool]:
        """Return the whole lines by number, and whether there is anything else in the file.

        Raises:
            ArtifactError: The file cannot be read.
        """
        try:
            text = self.path.read_bytes().decode("utf-8", errors="replace")
        except FileNotFoundError:
            return {}, False
        except OSError as error:
            raise self._unusable(error) from error
        found: dict[int, str] = {}
        whole = not text or text.endswith("\n")
        for line in text.split("\n")[: text.count("\n") + (not whole)]:
            number = read_number(line)
            # Of two lines with one number the first counts, and the other is put aside.
            whole = whole and number is not None and number not in found
            if number is not None:
                found.setdefault(number, line)
        return found, not whole

    def add(self, text: str) -> None:
        """Write a line behind the others.

        Raises:
            ArtifactError: The file cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a", encoding="utf-8", newline="\n") as file:
                file.write(f"{text}\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._unusable(error) from error

    def replace(self, lines: Mapping[int, str], *, damaged: bool) -> None:
        """Write the file anew, all of it or nothing.

        Args:
            lines: Lines by number.
            damaged: Whether what stands there now is put aside, as ``NAME.jsonl.damaged``.

        Raises:
            ArtifactError: The file cannot be written.
        """
        try:
            if damaged:
                shutil.copyfile(self.path, self.path.with_suffix(".jsonl.damaged"))
            with (
                replacing(self.path) as part,
                open(part, "w", encoding="utf-8", newline="\n") as file,
            ):
                file.writelines(f"{lines[number]}\n" for number in sorted(lines))
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> ArtifactError:
        return ArtifactError(
            f"{self.path}: the ledger cannot be read or written ({error.strerror}). Give the "
            "folder its rights and space back, and run again: MLflow has the same lines."
        )


class LedgerTags:
    """A ledger as tags of a registered model, one a line: ``retune.ledger.000017``.

    A line that is longer than a tag may be goes on in ``retune.ledger.000017.1``, which is written
    before it.

    Args:
        client: From `connect`.
        name: The registered model; need not exist.
    """

    def __init__(self, client: MlflowClient, name: str) -> None:
        self._client, self._name = client, name

    def read(self) -> dict[int, str] | None:
        """Return the whole lines by number; None where there is no such registered model."""
        tags = _read_tags(self._client, self._name)
        if tags is None:
            return None
        parts: dict[int, dict[int, str]] = {}
        for key, text in tags.items():
            if match := _TAG.fullmatch(key):
                parts.setdefault(int(match["number"]), {})[int(match["part"] or 0)] = text
        joined = {number: _join(found) for number, found in parts.items()}
        return {number: line for number, line in joined.items() if read_number(line) == number}

    def add(self, number: int, text: str) -> None:
        """Write a line, and the registered model where there is none."""
        make_registered_model(self._client, self._name)
        write_long_tag(self._client, self._name, f"retune.ledger.{number:06d}", text)


def write_long_tag(client: MlflowClient, name: str, key: str, text: str) -> None:
    """Write a tag of a registered model that may be longer than MLflow lets one be.

    Args:
        client: From `connect`.
        name: The registered model.
        key: The tag; what does not fit goes on in ``KEY.1``, which is written before it.
        text: Its value.
    """
    starts = range(0, len(text), _PART_CHARACTERS)
    for part, start in reversed(list(enumerate(starts))):
        value = text[start : start + _PART_CHARACTERS]
        client.set_registered_model_tag(name, f"{key}.{part}" if part else key, value)


def read_long_tag(client: MlflowClient, name: str, key: str) -> str | None:
    """Return what `write_long_tag` wrote; None where there is no such tag."""
    parts = _find_parts(client, name, key)
    return _join(parts) if 0 in parts else None


def drop_long_tag(client: MlflowClient, name: str, key: str) -> None:
    """Take away what `write_long_tag` wrote."""
    # The first part goes first: without it the others are nothing.
    for part in sorted(_find_parts(client, name, key)):
        client.delete_registered_model_tag(name, f"{key}.{part}" if part else key)


def _find_parts(client: MlflowClient, name: str, key: str) -> dict[int, str]:
    tags = _read_tags(client, name) or {}
    found = {0: tags[key]} if key in tags else {}
    for each, text in tags.items():
        part = each.removeprefix(f"{key}.")
        if part != each and part.isdecimal():
            found[int(part)] = text
    return found


def _read_tags(client: MlflowClient, name: str) -> dict[str, str] | None:
    from mlflow.exceptions import MlflowException

    try:
        return dict(client.get_registered_model(name).tags)
    except MlflowException as error:
        if is_absent(error):
            return None
        raise


def _join(parts: Mapping[int, str]) -> str:
    # Only a full part goes on: one that a writer left behind when it died belongs to no line.
    text = ""
    for part in range(len(parts)):
        text += parts.get(part, "")
        if len(parts.get(part, "")) < _PART_CHARACTERS:
            break
    return text
