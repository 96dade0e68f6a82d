"""Sending an export to a model hub: what would be sent is said first, and nobody else sees it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from retune.errors import ArtifactError, ConfigError, RetuneError, ServiceError
from retune.publishing.folders import describe_files, read_export
from retune.publishing.records import EXPORT_FILE
from retune.records import Record

if TYPE_CHECKING:
    from huggingface_hub import HfApi

TOKEN = "HF_TOKEN"
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


class Push(Record):
    """What is sent, or was."""

    repository: str
    """``owner/name``."""
    private: bool
    """Whether only its owner sees a repository that is made for it."""
    message: str
    """Of the commit."""
    files: dict[str, int]
    """Bytes by path."""
    commit: str | None = None
    """Address of the commit; None where nothing was sent."""


def check_repository(repository: str) -> None:
    """Refuse what cannot be a repository, before anything expensive starts.

    Args:
        repository: ``owner/name``.

    Raises:
        ConfigError: It is none.
    """
    if not _REPOSITORY.fullmatch(repository) or any(part in repository for part in ("--", "..")):
        raise ConfigError(
            f"--repo {repository!r}: expected OWNER/NAME of letters, digits, '-', '_' and '.', as "
            "the hub has them."
        )


def read_token(environment: Mapping[str, str]) -> str:
    """Return the hub's token.

    Args:
        environment: Variables of the process: a token is read from nowhere else.

    Raises:
        ConfigError: There is none.
    """
    token = environment.get(TOKEN, "").strip()
    if not token:
        raise ConfigError(
            f"{TOKEN} is not set: the hub takes files only from somebody it knows. Make a token "
            "with write access in the hub's settings and set the variable; nothing was sent."
        )
    return token


def plan_push(folder: Path, repository: str, *, private: bool, message: str | None) -> Push:
    """Say what would be sent of an export.

    Args:
        folder: The export.
        repository: ``owner/name``.
        private: Whether only its owner sees it.
        message: Of the commit; None for one that names model and version.

    Returns:
        Files with sizes, visibility, message.

    Raises:
        ArtifactError: It is no whole export, or was changed since.
    """
    export = read_export(folder)
    found = describe_files(folder)
    changed = sorted(
        name for name in {*found, *export.files} if found.get(name) != export.files.get(name)
    )
    if changed:
        raise ArtifactError(
            f"{folder}: {changed[0]} is not what was exported. Nothing was sent. Export again."
        )
    sizes = {name: file.bytes for name, file in found.items()}
    sizes[EXPORT_FILE] = (folder / EXPORT_FILE).stat().st_size
    text = f"{export.model_name} version {export.version} as {export.form}"
    return Push(repository=repository, private=private, message=message or text, files=sizes)


def send(folder: Path, push: Push, token: str) -> Push:
    """Send an export as one commit; the repository is made where there is none.

    Args:
        folder: The export.
        push: From `plan_push`.
        token: Of the hub.

    Returns:
        The same with the commit's address.

    Raises:
        ConfigError: The hub refuses it, or a repository that is there shows it to everybody.
        ServiceError: The hub does not answer.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with _as_errors(push):
        if push.private:
            _refuse_public(api, push.repository)
        api.create_repo(push.repository, private=push.private, exist_ok=True)
        done = api.upload_folder(
            repo_id=push.repository,
            folder_path=folder,
            commit_message=push.message,
            # Weights of an earlier version must not stay beside these.
            delete_patterns=["*.safetensors", "*.safetensors.index.json"],
        )
    return push.model_copy(update={"commit": done.commit_url})


def _refuse_public(api: HfApi, repository: str) -> None:
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        found = api.model_info(repository)
    except RepositoryNotFoundError:
        return
    if not found.private:
        raise ConfigError(
            f"{repository}: this repository is there and everybody sees it. Nothing was sent. "
            "Write --public to send to it all the same, or name another with --repo."
        )


@contextmanager
def _as_errors(push: Push) -> Iterator[None]:
    """Turn what the hub's library raises into errors that say what to do."""
    from httpx2 import HTTPError
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code
        said = f"the hub answered {status} for {push.repository} ({_first_line(error)})"
        if status in (401, 403):
            raise ConfigError(
                f"{said}. The token in {TOKEN} may not write there: make one with write access, or "
                "name a repository of your own with --repo."
            ) from error
        raise _service(said) from error
    except OfflineModeIsEnabled as error:
        raise ConfigError(
            "HF_HUB_OFFLINE is set: the hub is not asked, and nothing was sent. Unset it."
        ) from error
    except (HTTPError, OSError) as error:
        raise _service(f"the hub does not answer ({_first_line(error)})") from error


def _service(said: str) -> RetuneError:
    return ServiceError(
        f"{said}. A commit is whole or absent, so that nothing half stands there. Try again later."
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
