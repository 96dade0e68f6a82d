"""Finding the files and hub datasets that a recipe names, and what they hold as a digest."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from retune.data.reading.files import ENDINGS, RawRow, ending_of
from retune.data.reading.hub import resolve_commit
from retune.digests import digest_file, digest_folder, digest_json
from retune.errors import ConfigError, DataError
from retune.recipe.sections.data import SourceConfig
from retune.records import HubDataset, RowSource, Source

DATABASE_ENDINGS = (".sqlite", ".sqlite3", ".db")
_LOOKS_LIKE_HUB = re.compile(r"[\w-][\w.-]*/[\w.-]+\Z")
_REASONS_SHOWN = 3
_TABLE = "Save the table as .csv (UTF-8), with the columns' names in its first line"
_PACKED = "Unpack it, or compress it with gzip"
_PAGE = "Make rows of pages with `retune collect`"
_INSTEAD = {
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods", ".numbers"), _TABLE),
    **dict.fromkeys(
        (".zst", ".bz2", ".xz", ".lz4", ".zip", ".7z", ".rar", ".tar", ".tgz"), _PACKED
    ),
    ".tar.gz": _PACKED,
    **dict.fromkeys((".html", ".htm", ".md", ".pdf", ".docx"), _PAGE),
    ".txt": 'Rename it to .csv or .tsv where it is a table; of plain text write {"text": "..."} on '
    "each line of a .jsonl file",
    **dict.fromkeys((".jsonlines", ".jl", ".ldjson"), "Rename it to .jsonl"),
    **dict.fromkeys(
        (".arrow", ".feather", ".orc", ".avro", ".h5"), "Save it as .parquet or .jsonl"
    ),
    **dict.fromkeys((".pkl", ".pickle", ".pt", ".npy", ".npz"), "Save its rows as .jsonl"),
    **dict.fromkeys((".yaml", ".yml", ".xml", ".toml"), "Save its rows as .jsonl"),
    **dict.fromkeys(
        (".sqlite", ".sqlite3", ".db", ".sql"),
        "Export the rows as .csv; data.databases names databases that rows ask about",
    ),
}
"""What to do with files of other kinds, by their ending."""


def locate_source(path: Path, name: str, *, folders: bool = False) -> Source:
    """Return a file and its digest.

    Args:
        path: The file, absolute.
        name: The recipe's key that names it, for the message.
        folders: Whether a folder of files will do.

    Returns:
        The source.

    Raises:
        DataError: There is no such file, or it is empty.
    """
    if folders and path.is_dir():
        return Source(digest=digest_folder(path), path=path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise DataError(
            f"{name}: {path} {what}. Expected a file; relative paths start at the project root."
        )
    if path.stat().st_size == 0:
        raise DataError(f"{name}: {path} is empty.")
    return Source(digest=digest_file(path), path=path)


def locate_files(written: Path, path: Path, name: str) -> RowSource:
    """Find the files that a path or a glob means.

    Args:
        written: The path as the recipe has it.
        path: The same, absolute.
        name: The recipe's key of the source.

    Returns:
        The files, sorted, and the digest of what they hold in that order.

    Raises:
        DataError: There is none, or one is empty or of an unknown kind.
    """
    key = f"{name}.path"
    files = _expand(written, path, key)
    for file in files:
        refuse_ending(file, key)
        locate_source(file, key)
    return RowSource(digest=files_digest(files), name=written.as_posix(), files=tuple(files))


def refuse_ending(file: Path, key: str) -> None:
    """Refuse a file whose ending is none of those that are read, and say what to do with it.

    Args:
        file: The file.
        key: The recipe's key that names it.

    Raises:
        DataError: Its ending is not known.
    """
    if ending_of(file) is not None:
        return
    name = file.name.lower()
    instead = next((what for ending, what in _INSTEAD.items() if name.endswith(ending)), None)
    raise DataError(
        f"{key}: {file} has an ending that is not known; expected {', '.join(ENDINGS)}."
        + (f" {instead}." if instead else "")
    )


def files_digest(files: Sequence[Path]) -> str:
    """Return the digest of what files hold, in their order; their names do not count."""
    digests = [digest_file(file) for file in files]
    return digests[0] if len(digests) == 1 else digest_json(digests)


def hub_digest(hub: HubDataset) -> str:
    """Return the digest of a hub dataset: its commit, or of a folder what it holds."""
    if hub.commit is None:
        content = digest_folder(Path(hub.dataset_id))
        return digest_json({"folder": content, "config": hub.config, "split": hub.split})
    return digest_json(hub.model_dump(include={"dataset_id", "config", "split", "commit"}))


def databases_digest(files: Sequence[Path]) -> str:
    """Return the digest of databases; a SQLite file's name is that of its database."""
    if len(files) == 1 and files[0].suffix.lower() not in DATABASE_ENDINGS:
        return digest_file(files[0])
    return digest_json([[file.stem, digest_file(file)] for file in files])


def locate_hub(source: SourceConfig, resolve: Callable[[Path], Path], name: str) -> RowSource:
    """Find a dataset of the hub, or a folder that stands for one.

    Args:
        source: The recipe's section on it.
        resolve: Makes the recipe's relative paths absolute.
        name: The recipe's key of the source.

    Returns:
        The split at its commit.

    Raises:
        ConfigError: There is no such dataset or revision, or it may not be read.
        DataError: The hub does not answer.
    """
    dataset_id = str(source.hub)
    folder = resolve(Path(dataset_id))
    local = folder.is_dir()
    if local and source.revision is not None:
        raise ConfigError(f"{name}.revision: {folder} is a folder of this machine, which has none.")
    hub = HubDataset(
        dataset_id=str(folder) if local else dataset_id,
        config=source.config,
        split=source.split,
        commit=None if local else resolve_commit(dataset_id, source.revision, name),
        streaming=source.streaming,
    )
    return RowSource(digest=hub_digest(hub), name=dataset_id, hub=hub)


def place_of(source: RowSource, file: int, line: int) -> str:
    """Name the place of a row for a person: file and line, or the dataset and the row's number."""
    if source.hub is not None:
        return f"{source.name} ({source.hub.split}) row {line}"
    return f"{source.files[file]}:{line}"


def nothing_readable(source: RowSource, bad: Sequence[RawRow], name: str, count: int) -> str:
    """Say that a source has no row that can be read, with the first reasons why.

    Args:
        source: The source.
        bad: Its first bad rows.
        name: What messages call it.
        count: How many bad rows there are.

    Returns:
        The message.
    """
    if not bad:
        return f"{name}: {source.name} holds no rows."
    shown = [
        f"  {place_of(source, row.file, row.line)}: {row.reason}" for row in bad[:_REASONS_SHOWN]
    ]
    more = count - len(shown)
    tail = [f"  ... and {more} more"] if more else []
    return "\n".join([f"{name}: no row of {source.name} can be read.", *shown, *tail])


def _expand(written: Path, path: Path, key: str) -> list[Path]:
    text, shown = str(path), written.as_posix()
    # A file whose name has brackets is meant as it stands.
    is_pattern = not path.exists() and glob.has_magic(text)
    if not is_pattern:
        if not path.exists() and _LOOKS_LIKE_HUB.match(shown):
            raise DataError(
                f"{key}: {path} does not exist; relative paths start at the project root. If "
                f"{shown} is a dataset of the hub, write {{hub: {shown}}}."
            )
        if path.is_dir():
            raise DataError(
                f"{key}: {path} is a folder. Name its files: {written.as_posix()}/*.jsonl."
            )
        return [path]
    found = sorted(Path(each) for each in glob.glob(text, recursive=True))
    files = [each for each in found if each.is_file()]
    if not files:
        what = "only folders" if found else "nothing"
        raise DataError(f"{key}: {path} matches {what}; expected files.")
    return files
