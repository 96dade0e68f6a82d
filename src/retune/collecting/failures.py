"""Why a page gives nothing. One page's failure becomes its outcome and never ends a run."""

from __future__ import annotations

from collections.abc import Mapping

from retune.errors import DataError

NO_CONNECTION = "no connection"
TIMED_OUT = "timed out"
ROBOTS = "disallowed by robots.txt"
TOO_LARGE = "page too large"
WRONG_TYPE = "not HTML, Markdown or plain text"
BAD_ADDRESS = "not an http(s) address"
UNREADABLE = "file cannot be read"
NAVIGATION = "navigation page"
LICENCE = "licence page"
EXTRACTOR = "extractor failed"
NO_CONTENT = "no main content"
NOT_A_PAGE = "not a page"
FRAMES = "page of frames"
REDIRECT = "page that only redirects"
NEEDS_SCRIPTS = "page written by scripts"


class PageFailed(DataError):
    """A page could not be fetched or has nothing to give.

    Args:
        reason: Short and countable, the same for all pages that fail alike.
        detail: What is particular to this page.
        transient: Whether asking again may help.
        wait_seconds: How long the host asks to wait before that.
        left_out: Letters of a page that was read, by the reason why they give nothing.
    """

    def __init__(
        self,
        reason: str,
        detail: str = "",
        *,
        transient: bool = False,
        wait_seconds: float | None = None,
        left_out: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.transient = transient
        self.wait_seconds = wait_seconds
        self.left_out = dict(left_out or {})

    def __reduce__(self) -> tuple[type[PageFailed], tuple[str, str]]:  # type: ignore[override]
        return (type(self), (self.reason, self.detail))
