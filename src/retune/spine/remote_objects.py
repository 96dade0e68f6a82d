"""Objects at an address of fsspec (S3 and others): read, written at once or not at all.

Two things are asked of a server beyond that: to write an object only where there is none
(`If-None-Match: *`), and only over the one that was read (`If-Match`). S3 has both, as MinIO and
others do. Where one has not, which is tried once and not believed, an object is written, and read
again after a while: two writers may then both believe that they were first, which costs work and
never an artifact, since artifacts do not rest on it.
"""

from __future__ import annotations

import errno
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from retune.errors import ArtifactError, ConfigError, RetuneError, ServiceError
from retune.recipe.credentials import masked

SETTLE_SECONDS = 2.0
"""How long a writer waits before it reads again, where a server has no conditional writes."""
_REFUSED = ("PreconditionFailed", "412", "ConditionalRequestConflict", "NoSuchKey", "404")
"""What S3 answers where a condition does not hold; the last two for one that was deleted."""
_UNKNOWN = ("NotImplemented", "501", "InvalidArgument", "InvalidRequest", "400")
"""What servers answer to a condition that they do not know."""
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_RIGHTS = "s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject"
_S3_OPTIONS: dict[str, Any] = {
    # Listings would be remembered, and others write here too.
    "use_listings_cache": False,
    "config_kwargs": {"retries": {"max_attempts": 4, "mode": "standard"}, "read_timeout": 60},
}


@dataclass(frozen=True)
class Found:
    """An object as it was read.

    Attributes:
        content: Its bytes.
        tag: What the server calls this state of it; empty where it has no name for it.
    """

    content: bytes
    tag: str


class RemoteObjects:
    """The objects below an address.

    Args:
        address: Such as ``s3://bucket/prefix``; where the server is and who asks it is said by the
            variables that its library reads (``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``, ...).

    Raises:
        ConfigError: There is no library for such an address, or it is none.
    """

    def __init__(self, address: str) -> None:
        import fsspec

        self.address = address.rstrip("/")
        protocol = address.partition("://")[0]
        self._is_s3 = protocol in ("s3", "s3a")
        try:
            self._fs, self._root = fsspec.url_to_fs(
                self.address, **(_S3_OPTIONS if self._is_s3 else {})
            )
        except (ImportError, ValueError) as error:
            extra = " (pip install 'retune[s3]')" if self._is_s3 else ""
            raise ConfigError(
                f"store.folder: {masked(address)}: {error}. Install what reads such an address"
                f"{extra}, or name a folder."
            ) from error

    @cached_property
    def conditional(self) -> bool:
        """Whether the server writes only where there is nothing; tried, once per process.

        Raises:
            ArtifactError: The address cannot be written.
            ServiceError: Its server does not answer.
        """
        name, content = f"leases/.tried-{uuid.uuid4().hex}", b"Made to see what is possible here."
        try:
            held = self._create(name, content) and not self._create(name, content)
        except RetuneError:
            # It, or what reads it, knows no such condition; or nothing can be written at all, which
            # the next line tells.
            self.write(name, content)
            held = False
        self.delete(name)
        return held

    def read(self, name: str) -> Found | None:
        """Return an object; None where there is none.

        Raises:
            ArtifactError: It may not be read.
            ServiceError: The server does not answer.
        """
        path = self._path(name)
        with self._asked(name):
            try:
                # In this order: what is written in between does not match the tag that is older.
                tag = str(self._fs.info(path).get("ETag", ""))
                return Found(self._fs.cat_file(path), tag)
            except FileNotFoundError:
                self._expect_bucket()
                return None

    def create(self, name: str, content: bytes) -> bool:
        """Write an object where there is none; return whether it was written.

        Args:
            name: Below the address.
            content: Different for each writer.

        Raises:
            ArtifactError: It may not be written.
            ServiceError: The server does not answer.
        """
        if self.conditional:
            return self._create(name, content)
        if self.read(name) is not None:
            return False
        return self._settled(name, content)

    def replace(self, name: str, content: bytes, before: Found) -> bool:
        """Write an object over the state of it that was read; return whether it was written.

        Raises:
            ArtifactError: It may not be written.
            ServiceError: The server does not answer.
        """
        if self._is_s3 and self.conditional:
            return self._put(name, content, IfMatch=before.tag)
        now = self.read(name)
        if now is None or now.content != before.content:
            return False
        return self._settled(name, content)

    def write(self, name: str, content: bytes) -> None:
        """Write an object, whatever stands there.

        Raises:
            ArtifactError: It may not be written.
            ServiceError: The server does not answer.
        """
        with self._asked(name):
            self._make_parent(name)
            self._fs.pipe_file(self._path(name), content)

    def delete(self, name: str) -> None:
        """Delete an object; one that is gone already is no error.

        Raises:
            ArtifactError: It may not be deleted.
            ServiceError: The server does not answer.
        """
        with self._asked(name):
            try:
                self._fs.rm_file(self._path(name))
            except FileNotFoundError:
                self._expect_bucket()

    def list(self, folder: str) -> dict[str, float]:
        """Return the names of the objects in a folder, and when each was written (Unix time).

        Raises:
            ArtifactError: It may not be listed.
            ServiceError: The server does not answer.
        """
        files = [each for each in self._list(folder) if each["type"] == "file"]
        return {_last_name(each): _written_at(each) for each in files}

    def folders(self, folder: str) -> Sequence[str]:
        """Return the names of the folders in a folder.

        Raises:
            ArtifactError: It may not be listed.
            ServiceError: The server does not answer.
        """
        return [_last_name(each) for each in self._list(folder) if each["type"] == "directory"]

    def send(self, files: Sequence[tuple[Path, str]]) -> None:
        """Write files as objects, several at a time.

        Args:
            files: Each file, and its object's name.

        Raises:
            ArtifactError: One may not be written.
            ServiceError: The server does not answer.
        """
        if not files:
            return
        with self._asked(files[0][1]):
            for _, name in files:
                self._make_parent(name)
            self._fs.put([str(path) for path, _ in files], [self._path(name) for _, name in files])

    def fetch(self, name: str, path: Path) -> bool:
        """Copy an object into a file; return whether there is one.

        Raises:
            ArtifactError: It may not be read.
            ServiceError: The server does not answer.
            OSError: The file cannot be written.
        """
        with self._asked(name):
            try:
                self._fs.get_file(self._path(name), str(path))
            except FileNotFoundError:
                self._expect_bucket()
                return False
        return True

    def _list(self, folder: str) -> Sequence[dict[str, Any]]:
        with self._asked(folder):
            try:
                return cast(Sequence[dict[str, Any]], self._fs.ls(self._path(folder), detail=True))
            except FileNotFoundError:
                self._expect_bucket()
        return ()

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _make_parent(self, name: str) -> None:
        if not self._is_s3:
            self._fs.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)

    def _expect_bucket(self) -> None:
        """Tell a bucket that is missing from one that has no such object."""
        if self._is_s3:
            self._fs.call_s3("head_bucket", Bucket=self._root.partition("/")[0])

    def _create(self, name: str, content: bytes) -> bool:
        if self._is_s3:
            return self._put(name, content, IfNoneMatch="*")
        with self._asked(name):
            try:
                self._make_parent(name)
                self._fs.pipe_file(self._path(name), content, mode="create")
            except FileExistsError:
                return False
        return True

    def _put(self, name: str, content: bytes, **condition: str) -> bool:
        bucket, _, key = self._path(name).partition("/")
        with self._asked(name):
            try:
                self._fs.call_s3("put_object", Bucket=bucket, Key=key, Body=content, **condition)
            except OSError as error:
                code = _code_of(error)
                if code in _REFUSED:
                    return False
                if code in _UNKNOWN:
                    raise NotImplementedError(str(error)) from error
                raise
        return True

    def _settled(self, name: str, content: bytes) -> bool:
        self.write(name, content)
        time.sleep(SETTLE_SECONDS)
        found = self.read(name)
        return found is not None and found.content == content

    @contextmanager
    def _asked(self, name: str) -> Iterator[None]:
        """Say of an error of the library what it means for the store."""
        try:
            yield
        except (ArtifactError, ServiceError):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _DISK_FULL:
                raise  # of this machine's disk, where a file is fetched to
            raise self._explained(name, error) from error

    def _explained(self, name: str, error: Exception) -> RetuneError:
        place = f"{self.address}/{name}" if name else self.address
        if isinstance(error, PermissionError) or type(error).__name__ == "NoCredentialsError":
            return ArtifactError(
                f"store.folder: {place}: access denied ({error}). Expected credentials that may "
                f"read and write there ({_RIGHTS}), such as AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the machine's own role."
            )
        if isinstance(error, FileNotFoundError):
            return ArtifactError(
                f"store.folder: {self.address}: there is no such bucket ({error}). Make it, or "
                "correct the address; AWS_ENDPOINT_URL says which server is asked."
            )
        if isinstance(error, NotImplementedError):
            return ArtifactError(f"store.folder: {self.address} cannot be written.")
        return ServiceError(
            f"store.folder: {place}: the server does not answer as it should "
            f"({type(error).__name__}: {error}). Finished stages are kept, here or there: run "
            "again when it answers, and nothing is computed twice. AWS_ENDPOINT_URL says which "
            "server is asked."
        )


def _code_of(error: BaseException) -> str:
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _last_name(found: dict[str, Any]) -> str:
    return str(found["name"]).rstrip("/").rpartition("/")[2]


def _written_at(found: dict[str, Any]) -> float:
    written = found.get("LastModified", found.get("mtime", found.get("created", 0.0)))
    return written.timestamp() if isinstance(written, datetime) else float(written)
