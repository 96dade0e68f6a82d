"""Rows of a dataset on the Hugging Face hub, at a commit that is resolved once.

A folder of this machine that `datasets` can load stands for a dataset too. It is always streamed:
the library would otherwise serve rows from its cache as long as a file keeps its size and time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from retune.data.reading.files import RawRow
from retune.errors import ConfigError, DataError, RetuneError
from retune.records import HubDataset

_COMMIT = re.compile(r"[0-9a-f]{40}\Z")
_SECONDS = 20.0
_DETAIL_CHARS = 400
_NO_NETWORK = (
    "there is no connection to the hub (or HF_HUB_OFFLINE is set). Check the network; without one, "
    "name files by path, or a folder of this machine by hub"
)
_GATED = (
    "is gated: accept its conditions on its page, and set HF_TOKEN in the environment to a token "
    "that may read it"
)
_ABSENT = (
    "does not exist, or is private. Check the spelling (owner/name); for a private one set HF_TOKEN"
)


def resolve_commit(dataset_id: str, revision: str | None, name: str) -> str:
    """Ask the hub which commit a revision is now.

    Args:
        dataset_id: Name on the hub.
        revision: Commit, tag or branch; None for the newest.
        name: The recipe's key of the source, for messages.

    Returns:
        The commit. A full commit is returned without asking.

    Raises:
        ConfigError: There is no such dataset or revision, or it may not be read.
        DataError: The hub does not answer.
    """
    if revision and _COMMIT.match(revision):
        return revision
    from huggingface_hub import HfApi

    try:
        found = HfApi().dataset_info(dataset_id, revision=revision, timeout=_SECONDS)
    except Exception as error:
        explained = _explain(error, dataset_id, name)
        if explained is None:
            raise
        raise explained from error
    return str(found.sha)


def read_hub(hub: HubDataset, name: str, *, label_names: bool = True) -> Iterator[RawRow]:
    """Yield the rows of a hub dataset, numbered from 1.

    Args:
        hub: The split, at its commit.
        name: What messages call the source.
        label_names: Whether numbers of classes become the names that the dataset gives them.

    Yields:
        Rows. None is ever bad by itself: the library gives all or breaks off.

    Raises:
        ConfigError: There is no such configuration or split, or it may not be read.
        DataError: The hub does not answer, or the library cannot read the files. A set that breaks
            off is refused as a whole: half of it must not pass for all of it.
    """
    try:
        dataset = _open_dataset(hub)
        classes = _class_names(dataset.features) if label_names else {}
        for number, row in enumerate(dataset, start=1):
            yield RawRow(0, number, _name_classes(row, classes))
    except RetuneError:
        raise
    except Exception as error:
        explained = _explain(error, hub.dataset_id, name)
        if explained is None:
            raise
        raise explained from error


def first_hub_rows(hub: HubDataset, name: str, count: int) -> list[RawRow]:
    """Return the first rows, without downloading the rest."""
    streamed = hub.model_copy(update={"streaming": True})
    return list(islice(read_hub(streamed, name), count))


def _open_dataset(hub: HubDataset) -> Any:
    import datasets

    # Bars of the library would be drawn through those of the run.
    datasets.disable_progress_bars()
    return datasets.load_dataset(
        hub.dataset_id,
        hub.config,
        split=hub.split,
        revision=hub.commit,
        streaming=hub.streaming or hub.commit is None,
    )


def _class_names(features: Any) -> dict[str, list[str]]:
    """Map columns of classes to the names of their numbers; a streamed set may know none."""
    found = (features or {}).items()
    return {key: list(feature.names) for key, feature in found if hasattr(feature, "names")}


def _name_classes(row: dict[str, Any], classes: dict[str, list[str]]) -> dict[str, Any]:
    for key, names in classes.items():
        number = row.get(key)
        # -1 stands for a row without a label: left as it is, and refused later.
        if isinstance(number, int) and 0 <= number < len(names):
            row = {**row, key: names[number]}
    return row


def _explain(error: Exception, dataset_id: str, name: str) -> RetuneError | None:
    """Turn an error of the libraries into one for a person; None for one that is none of theirs."""
    import httpx
    from datasets import exceptions
    from huggingface_hub import errors

    where = f"{name}.hub: {dataset_id!r}"
    causes = list(_causes(error))
    # A private dataset looks the same to a stranger as one that is not there.
    for kind, key, reason in (
        (errors.GatedRepoError, "hub", _GATED),
        (errors.RevisionNotFoundError, "revision", "has no such revision; look at its page"),
        (errors.RepositoryNotFoundError, "hub", _ABSENT),
        (errors.HFValidationError, "hub", "is neither a folder nor a name such as owner/name"),
    ):
        if any(isinstance(cause, kind) for cause in causes):
            return ConfigError(f"{name}.{key}: {dataset_id!r} {reason}.")
    text = " ".join(str(error).split())[:_DETAIL_CHARS]
    if isinstance(error, exceptions.DatasetNotFoundError):
        return ConfigError(f"{where} {_GATED if 'gated' in text else _ABSENT}.")
    if any(_is_offline(cause, httpx, errors) for cause in causes):
        return DataError(f"{where}: {_NO_NETWORK}.")
    if isinstance(error, errors.HfHubHTTPError):
        return DataError(f"{where}: the hub refused the request ({text}). Try again later.")
    if isinstance(error, ValueError) and "split" in text.lower():
        return ConfigError(f"{name}.split: {dataset_id!r} does not have it ({text}).")
    if isinstance(error, ValueError) and "config" in text.lower():
        return ConfigError(f"{name}.config: {dataset_id!r} does not fit it ({text}).")
    if isinstance(error, exceptions.DatasetsError | ValueError | OSError):
        causes_text = " ".join(str(causes[-1]).split())[:_DETAIL_CHARS]
        detail = text if causes[-1] is error else f"{text} {causes_text}"
        return DataError(f"{where}: datasets cannot read it ({detail}).")
    return None


def _is_offline(cause: BaseException, httpx: Any, errors: Any) -> bool:
    kinds = (httpx.TransportError, errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError)
    # The hub's library may bring its own httpx under another name: compare by name as well.
    names = {kind.__name__ for kind in type(cause).__mro__}
    return isinstance(cause, (*kinds, ConnectionError)) or "TransportError" in names


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
