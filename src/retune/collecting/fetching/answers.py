"""What an HTTP answer means: errors, status, waits, types and sizes, as `PageFailed` or values."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

import httpx

from retune.collecting.failures import (
    BAD_ADDRESS,
    NO_CONNECTION,
    TIMED_OUT,
    TOO_LARGE,
    WRONG_TYPE,
    PageFailed,
)

# The last two come through httpx as they are: a malformed international host name, and a port
# above 65535.
_BAD_ADDRESS_ERRORS = (
    httpx.InvalidURL,
    httpx.UnsupportedProtocol,
    UnicodeError,
    OverflowError,
)


class httpx_failures:
    """Turns errors of httpx and time limits into `PageFailed`."""

    def __enter__(self) -> None:
        """Start to watch."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Translate an error.

        Raises:
            PageFailed: In place of the error.
        """
        name = type(error).__name__
        if isinstance(error, TimeoutError | httpx.TimeoutException):
            raise PageFailed(TIMED_OUT, name, transient=True) from error
        if isinstance(error, httpx.TooManyRedirects):
            raise PageFailed("too many redirects", str(error)) from error
        if isinstance(error, _BAD_ADDRESS_ERRORS):
            raise PageFailed(BAD_ADDRESS, str(error)) from error
        if isinstance(error, httpx.DecodingError):
            raise PageFailed("broken answer", str(error), transient=True) from error
        if isinstance(error, httpx.HTTPError):
            raise PageFailed(NO_CONNECTION, str(error) or name, transient=True) from error


def check_status(status: int, headers: httpx.Headers) -> None:
    """Refuse all but success.

    Args:
        status: HTTP status of the answer.
        headers: Its headers.

    Raises:
        PageFailed: The status is not 2xx; 408, 425, 429 and 5xx may be asked again.
    """
    if 200 <= status < 300:
        return
    transient = status in {408, 425, 429} or status >= 500
    wait = retry_after_seconds(headers.get("retry-after"), now=time.time())
    raise PageFailed(f"HTTP {status}", transient=transient, wait_seconds=wait)


def retry_after_seconds(value: str | None, *, now: float) -> float | None:
    """Read a Retry-After header, which is a number of seconds or a date.

    Args:
        value: The header; None where there is none.
        now: Seconds since 1970, for a date.

    Returns:
        Seconds to wait; None for no header or one that cannot be read.
    """
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except ValueError:
        return None


def content_type(headers: httpx.Headers) -> tuple[str, str | None]:
    """Return media type and charset of an answer, without guessing."""
    header = httpx.Response(200, headers={"content-type": headers.get("content-type", "")})
    media_type = header.headers["content-type"].partition(";")[0].strip().lower()
    return media_type, header.charset_encoding


def check_type(media_type: str, allowed: frozenset[str] | None) -> None:
    """Refuse what is not a page.

    Raises:
        PageFailed: The type is stated and not among the allowed.
    """
    if allowed is not None and media_type and media_type not in allowed:
        raise PageFailed(WRONG_TYPE, media_type)


def check_size(size: int, max_bytes: int) -> None:
    """Refuse what is too large.

    Raises:
        PageFailed: It is larger than `max_bytes`.
    """
    if size > max_bytes:
        raise PageFailed(TOO_LARGE, f"more than {max_bytes:,} bytes")
