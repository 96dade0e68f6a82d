"""The frozen values of this room: settings, pages, documents, pairs, outcomes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from retune.collecting.choices import ProviderName, RowKind
from retune.records import Record

Status = Literal["kept", "empty", "failed"]


class CollectSettings(Record):
    """How pages are fetched and what becomes of them."""

    rows: RowKind = "pairs"
    """`pairs`: a section's headings ask, its body answers. `sentences`: each sentence is answered
    by the next one. `documents`: one row per page."""
    provider: ProviderName = "http"
    """Who fetches: this machine, or Bright Data's Web Unlocker."""
    zone: str = "web_unlocker1"
    """Bright Data zone; other providers ignore it."""
    concurrency: int = Field(default=16, ge=1)
    """Requests at a time, over all hosts."""
    per_host: int = Field(default=2, ge=1)
    """Requests at a time to one host. A Crawl-delay in its robots.txt makes this 1."""
    timeout_seconds: float = Field(default=30.0, gt=0)
    """Longest time for one request, from connecting to the last byte."""
    attempts: int = Field(default=4, ge=1)
    """Requests for one page before it is given up."""
    longest_wait_seconds: float = Field(default=120.0, gt=0)
    """A page is given up when its host asks for a longer wait (Retry-After, Crawl-delay)."""
    max_page_bytes: int = Field(default=5_000_000, ge=1)
    """A larger page is not read to its end."""
    min_characters: int = Field(default=80, ge=1)
    """A shorter section body gives no pair; documents are measured as a whole."""
    max_characters: int = Field(default=4000, ge=200)
    """A longer section is split between blocks; a block, such as a listing, is never cut."""
    most_lost: float = Field(default=0.5, ge=0, le=1)
    """A page that loses more than this share of its text, navigation and the like not counted, is
    named at the end."""
    most_empty: float = Field(default=0.5, ge=0, le=1)
    """Where more than this share of the pages that were read gives no row, the run is an error.
    Navigation and licence pages do not count, and neither do pages that could not be fetched."""
    boilerplate_pages: int = Field(default=3, ge=2)
    """The same section body on this many pages or more is boilerplate and dropped."""
    cache: Path = Path(".retune/pages")
    """Folder of raw pages by address, so that an interrupted run goes on."""
    refresh: bool = False
    """Fetch again what the cache holds."""


class FetchedPage(Record):
    """What came back for one address."""

    url: str
    """The address that was asked for."""
    final_url: str
    """The address that answered, after redirects."""
    media_type: str
    """Lower case, without parameters."""
    charset: str | None
    """As the Content-Type header states it."""
    body: bytes


class Section(Record):
    """What stands below one heading, up to the next one."""

    path: tuple[str, ...]
    """Headings from the outermost to this one; empty before the first heading."""
    level: int
    """Of its heading: 1 to 6, more for a term below one; 0 before the first heading."""
    blocks: tuple[str, ...]
    """Paragraphs, list items, tables and fenced listings as Markdown, in order."""
    heading_letters: int = 0
    """How many of the page's letters stand in the heading ..."""
    block_letters: tuple[int, ...] = ()
    """... and in each block."""

    @property
    def letters(self) -> int:
        """How many of the page's letters stand in it."""
        return self.heading_letters + sum(self.block_letters)

    @property
    def text(self) -> str:
        """The body as Markdown."""
        return "\n\n".join(self.blocks)


class Document(Record):
    """The main content of one page."""

    source: str
    """Address or path, as it was given."""
    title: str
    language: str | None
    """As the page states it."""
    sections: tuple[Section, ...]
    left_out: dict[str, int] = Field(default_factory=dict)
    """Letters of the page that stand in no section, by reason."""

    @property
    def characters(self) -> int:
        """Length of all section bodies."""
        return sum(len(section.text) for section in self.sections)


class Pair(Record):
    """One question with its answer, and where they come from."""

    id: str
    question: str
    answer: str
    source: str
    title: str
    heading: str
    method: Literal["sections", "sentences"]


class Outcome(Record):
    """What became of one address."""

    source: str
    status: Status
    """`kept`: gave rows. `empty`: was read and gave none. `failed`: could not be read."""
    reason: str
    """Short and countable."""
    detail: str = ""
    """What is particular to this page."""
    characters: int = 0
    rows: int = 0
    dropped: dict[str, int] = Field(default_factory=dict)
    """Sections that gave no row, by reason."""
    letters: int = 0
    """All letters of the page, without white space."""
    left_out: dict[str, int] = Field(default_factory=dict)
    """Letters that stand in no row, by reason."""
    lost: float = 0.0
    """Share of the page's own text that stands in no row: navigation, what is hidden, scripts and
    the like count neither as text nor as lost."""
    reused: bool = False
    """Whether the page came from the cache."""
