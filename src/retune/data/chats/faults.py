"""What a row is told that cannot be written as a chat."""

from __future__ import annotations

from typing import Any

from retune.data.quality.sensitive import redact
from retune.errors import DataError


class ChatFault(DataError):
    """A row that cannot be written as a chat.

    Args:
        limit: The field of `LimitsConfig` that counts it.
        reason: The same words for every row with this fault.
        detail: What was found in this row; secrets and personal data in it are redacted.
    """

    def __init__(self, limit: str, reason: str, detail: str = "") -> None:
        detail = redact(detail)
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.limit, self.reason, self.detail = limit, reason, detail

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.limit, self.reason, self.detail))


def malformed(reason: str, detail: str = "") -> ChatFault:
    """Return the fault of a row whose turns and chat template do not fit together."""
    return ChatFault("malformed_chats", reason, detail)
