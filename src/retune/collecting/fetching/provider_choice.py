"""The provider of pages that the settings name."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from retune.collecting.fetching.bright_data import open_bright_data
from retune.collecting.fetching.providers import PAGE_TYPES, PageProvider, open_http
from retune.collecting.records import CollectSettings


def open_provider(
    settings: CollectSettings, *, media_types: frozenset[str] | None = PAGE_TYPES
) -> AbstractAsyncContextManager[PageProvider]:
    """Open the provider that the settings name.

    Args:
        settings: Which one, and its limits.
        media_types: What is read at all.

    Returns:
        A context with the provider; its connections close at the end.

    Raises:
        ConfigError: Bright Data is asked for without a token.
    """
    if settings.provider == "brightdata":
        return open_bright_data(settings, media_types)
    return open_http(settings, media_types)
