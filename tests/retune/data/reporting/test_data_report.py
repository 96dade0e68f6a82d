"""A data report shows every figure, escapes what it is given, and is a page that stands alone."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from retune.data.findings import (
    AUDIT_FILE,
    LEAKS_FILE,
    QUALITY_FILE,
    AuditReport,
    ColumnFinding,
    Duplicates,
    LeakFinding,
    LeakReport,
    Lengths,
    QualityReport,
    SideAudit,
    SourceFinding,
)
from retune.data.reporting import (
    DataReport,
    LimitLine,
    SideLine,
    gather_report,
    render,
    write_data_report,
)
from retune.data.reporting.pages import templates
from retune.data.reporting.plots import Bar
from retune.data.reporting.showing import limit, spread
from retune.data.schemas import INDEX_SCHEMA
from retune.data.tables import write_table
from retune.errors import ArtifactError
from retune.pages.numbers import percent
from retune.recipe.sections import LimitsConfig
from retune.records import ChatRef, CleanRef, Share, Side, SplitRef

VOID = {"meta", "img", "br", "link", "input", "hr"}
HOSTILE = '<script>alert("row")</script>'


def lengths(*counts: int, width: int = 40) -> Lengths:
    """Return lengths whose figures fit their bins: percentiles are upper edges."""
    edges = tuple(range(0, width * len(counts) + 1, width))
    total, ends = sum(counts), list(accumulate(counts))
    shares = {"min": 0.0, "p5": 0.05, "p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    percentiles = {
        name: edges[1 + next(at for at, end in enumerate(ends) if end >= share * total)]
        for name, share in shares.items()
    }
    mean = sum(count * (at + 0.5) * width for at, count in enumerate(counts)) / total
    return Lengths(mean=mean, percentiles=percentiles, edges=edges, counts=counts)


def column(name: str, used_as: str | None, filled: int, rewords: int = 0) -> ColumnFinding:
    return ColumnFinding(
        name=name, used_as=used_as, filled=filled, types={"string": filled},
        rewords_question=rewords,
    )  # fmt: skip


def example_quality() -> QualityReport:
    columns = (
        column("text", "question", 5574),
        column("label", "answer", 5571),
        column("text_again", None, 5560, rewords=2461),
    )
    sources = (
        SourceFinding(
            name="messages/*.jsonl", format="text_label", held_out=False, read=5574, bad=3,
            kept=5091, dropped={"bad row": 3, "folded duplicate": 444, "conflicting label": 36},
            columns=columns,
        ),
        SourceFinding(
            name="owner/held-out-messages", format="text_label", held_out=True, read=1200, bad=0,
            kept=1200, dropped={}, columns=columns[:2],
        ),
    )  # fmt: skip
    shape = (310, 1402, 1270, 801, 455, 240, 133, 71, 40, 22, 13, 8, 5, 2, 1, 1)
    return QualityReport(
        sources=sources,
        read=6774,
        kept=6291,
        dropped={"bad row": 3, "folded duplicate": 444, "conflicting label": 36},
        characters={"question": lengths(*shape), "answer": lengths(0, 0, 5480, 811, width=1)},
        duplicates=Duplicates(
            exact=415, folded=444, near=129, examples=(("sms.jsonl:81", "sms.jsonl:12"),)
        ),
        labels={"ham": 5480, "spam": 811},
        conflicting_texts=18,
        conflicting_rows=36,
        languages={"en": 5600, "pt": 400, "es": 120, "und": 171},
        unprintable={"control character": 12, "replacement character": 41},
        secrets={"API key": 2},
        personal_data={"e-mail address": 31, "telephone number": 402},
        seconds={"duplicates": 0.81, "languages": 2.4, "patterns": 0.33},
    )


def example_audit() -> AuditReport:
    shape = (12, 90, 300, 640, 900, 870, 610, 420, 300, 180, 90, 40, 21, 9, 4, 2)
    rows: dict[Side, int] = {"train": 4583, "validation": 508, "test": 1200}
    sides = {
        side: SideAudit(
            rows=count, kept=count - (7 if side == "train" else 0), tokens=count * 68,
            faults={"cut_targets": 5 if side == "train" else 0, "no_end": 2},
            target_tokens=2 * count,
            prompt_lengths=lengths(*shape, width=16),
            answer_lengths=lengths(0, 0, count, 0, width=1),
        )
        for side, count in rows.items()
    }  # fmt: skip
    return AuditReport(
        sides=sides,
        examples={"cut_targets": (f"row 17: 640 tokens, ends in {HOSTILE}",), "no_end": ()},
        max_length=512,
        repaired=4,
    )


def example_report() -> DataReport:
    sides: list[tuple[Side, int]] = [("train", 4583), ("validation", 508), ("test", 1200)]
    kinds = {"exact": 20, "folded": 9, "near": 12, "query": 0}
    findings = (
        LeakFinding(
            side="test", source_side="train", rows=41, of=1200, by_kind=kinds, dropped=0
        ),
        LeakFinding(side="test", source_side="validation", rows=3, of=1200,
                    by_kind={**kinds, "exact": 3, "folded": 0, "near": 0}, dropped=0),
        LeakFinding(side="validation", source_side="train", rows=0, of=508, by_kind={}, dropped=0),
    )  # fmt: skip
    return DataReport(
        name="Spam in two languages",
        made_at="2026-11-20 09:30 UTC",
        breaches=(
            "3 of 6,774 rows (0.04 %) could not be read, such as messages/b.jsonl:812; "
            "limits.bad_rows allows 0.0 %. Mend the lines, or name the right keys in data.columns, "
            "or raise limits.bad_rows.",
            "44 of 1,200 rows (3.7 %) are held out but repeated in training or validation; "
            "limits.leaked_rows allows 0.0 %. Set quality.drop_leaked to true.",
        ),
        limits=(
            LimitLine(name="bad_rows", rows=3, of=6774, limit=0.0, state="over",
                      first=("messages/b.jsonl:812",)),
            LimitLine(name="folded_duplicates", rows=444, of=6771, limit=None, state="no limit",
                      first=("messages/a.jsonl:81", "messages/a.jsonl:90")),
            LimitLine(name="leaked_rows", rows=44, of=1200, limit=0.0, state="over",
                      first=("t-17", "t-52", "t-60")),
            LimitLine(name="cut_targets", rows=5, of=6291, limit=0.01, state="within", first=()),
        ),
        quality=example_quality(),
        sides=tuple(
            SideLine(side=side, rows=rows, prepared=rows - (7 if side == "train" else 0),
                     tokens=rows * 68, target_tokens=2 * rows,
                     labels={"ham": rows * 87 // 100, "spam": rows - rows * 87 // 100})
            for side, rows in sides
        ),
        groups_shared=0,
        leaks=LeakReport(findings=findings, pairs=57, uncompared=0),
        audit=example_audit(),
        longest_tokens=488,
    )  # fmt: skip


class Balanced(HTMLParser):
    """Fails on a tag that is closed without being open, and keeps what a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.addresses += [str(value) for name, value in attrs if name in ("src", "href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        return

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_stands_alone() -> None:
    """Every tag is closed, and nothing is fetched from elsewhere."""
    page = Balanced()
    text = render("data.html", example_report())
    page.feed(text)
    assert page.open == []
    assert page.addresses == []
    assert "<script" not in text


@pytest.mark.parametrize("name", ["data.html", "data.md"])
def test_a_page_says_on_top_whether_a_run_would_start(name: str) -> None:
    """A breach stops it; without one the mark is another."""
    stopped = example_report()
    passed = stopped.model_copy(update={"breaches": ()})
    assert "✗ Stopped: 2 limits are passed" in render(name, stopped)[:8000]
    assert "✓ Within all limits" in render(name, passed)[:8000]
    assert "Stopped" not in render(name, passed)


@pytest.mark.parametrize("name", ["data.html", "data.md"])
@pytest.mark.parametrize(
    "figure",
    [
        "6,774",  # rows read
        "444",  # folded duplicates that were dropped
        "4,583",  # training rows
        "API key",
        "2,461",  # rows in which an unused column rewords the question
        "e-mail address",
        "3.4 %",  # 41 of 1,200 leaked rows
        "87.0 %",  # ham among the training rows
        "Cut targets",
    ],
)
def test_a_page_shows_every_figure(name: str, figure: str) -> None:
    """With separators, and shares with one decimal."""
    assert figure in render(name, example_report())


@pytest.mark.parametrize("name", ["data.html", "data.md"])
def test_pages_without_chats_and_leaks_can_be_made(name: str) -> None:
    """`retune check` without a tokenizer knows the quality alone."""
    bare = {"audit": None, "leaks": None, "longest_tokens": None}
    sides = [
        each.model_copy(update={"prepared": None, "tokens": None, "target_tokens": None})
        for each in example_report().sides
    ]
    report = example_report().model_copy(update={**bare, "sides": tuple(sides)})
    assert "The sides were not compared." in render(name, report)


def test_the_files_hold_what_the_report_holds(tmp_path: Path) -> None:
    """The JSON reads back as the same report."""
    write_data_report(tmp_path / "report", example_report())
    text = (tmp_path / "report" / "data.json").read_bytes()
    assert DataReport.model_validate_json(text) == example_report()
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        "data.json", "data.md", "data.html",
    }  # fmt: skip


def plot(name: str, *values: Any) -> str:
    """What a page draws."""
    return str(getattr(templates().get_template("plots.html.j2").module, name)(*values))


def test_a_histogram_has_a_column_per_bin() -> None:
    """Three bins; 4 rows fill the 90 units of height, 1 row 22.5, and none nothing."""
    found = Lengths(mean=1, percentiles={"p50": 5}, edges=(0, 10, 20, 1000), counts=(4, 1, 0))
    picture = plot("histogram", found, 'lengths of "x"')
    assert picture.count("<rect") == 3
    assert 'height="90.0"' in picture
    assert 'height="22.5"' in picture
    assert "<title>20 to 1,000: 0 rows</title>" in picture
    # The median 5 lies in the middle of the first of three bins: 4 + 312 / 6 = 56.
    assert 'class="median" x1="56.0"' in picture
    assert "lengths of &#34;x&#34;" in picture


def test_no_rows_are_no_picture() -> None:
    """A side without rows has bins without counts."""
    found = Lengths(mean=0, percentiles={}, edges=(0, 1), counts=(0,))
    assert "<svg" not in plot("histogram", found, "nothing")


def test_bars_are_shares_of_the_longest() -> None:
    """20 % fills the width, 10 % half of it."""
    bars = plot("bars", [Bar("a", 20, 100), Bar("<b>", 100, 1000)])
    assert "width:100.0%" in bars
    assert "width:50.0%" in bars
    assert "&lt;b&gt;" in bars


def test_shares_have_one_decimal() -> None:
    """And a share of something never reads as nothing."""
    assert percent(1, 8) == "12.5 %"
    assert percent(1, 100_000) == "< 0.1 %"
    assert percent(0, 10) == "0.0 %"
    assert percent(0, 0) == "–"
    assert limit(0.005) == "0.5 %"


def test_lengths_are_told_by_their_percentiles() -> None:
    """Those that there are."""
    found = Lengths(mean=1234.5, percentiles={"p50": 1000}, edges=(0, 1), counts=(1,))
    assert spread(found) == "mean 1,234, median 1,000"


def stages(folder: Path) -> tuple[CleanRef, SplitRef, ChatRef]:
    """Write what the data stages leave behind."""
    own = {"source": 0, "row": 0, "row_id": "r", "group": "g", "key": "r", "db_id": None}
    rest = {"held_out": False, "exact": 1, "folded": 1}
    (folder / "log").mkdir()
    for side, labels in (("train", ["b", "a", "b"]), ("validation", ["a"]), ("test", [None])):
        rows = [{**own, **rest, "label": label} for label in labels]
        write_table(folder / f"{side}.parquet", rows, INDEX_SCHEMA)
    (folder / QUALITY_FILE).write_text(example_quality().model_dump_json())
    (folder / AUDIT_FILE).write_text(example_audit().model_dump_json())
    found = Share(rows=2, of=5)
    counts = {"train": 3, "validation": 1, "test": 1}
    clean = CleanRef(digest="c", folder=folder, rows=5, test_rows=0, faults={"secrets": found})
    split = SplitRef(digest="s", folder=folder, groups_shared=1, **counts)
    chat = ChatRef(
        digest="h", folder=folder, side_digests={}, tokenizer_digest="t", train_tokens=9,
        answer_tokens=3, longest_tokens=4, faults={"cut_targets": Share(rows=0, of=5)}, **counts,
    )  # fmt: skip
    return clean, split, chat


def test_a_report_is_gathered_from_records_and_files(tmp_path: Path) -> None:
    """Labels are counted per side; a limit of 0.5 bears 2 of 5 rows, one of 0 does not."""
    clean, split, chat = stages(tmp_path)
    report = gather_report(clean, split, chat, LimitsConfig(), [], name="n")
    assert [side.labels for side in report.sides] == [{"b": 2, "a": 1}, {"a": 1}, {}]
    assert [(line.name, line.state) for line in report.limits] == [
        ("secrets", "over"), ("cut_targets", "within"),
    ]  # fmt: skip
    assert len(report.breaches) == 1
    assert report.leaks is None
    assert report.audit == example_audit()
    bearing = gather_report(clean, split, None, LimitsConfig(secrets=0.5), [])
    assert (bearing.breaches, bearing.audit) == ((), None)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """With what to do."""
    clean, split, chat = stages(tmp_path)
    (tmp_path / LEAKS_FILE).write_text(json.dumps({"findings": 3}))
    with pytest.raises(ArtifactError, match=r"leaks.json: cannot be read as LeakReport"):
        gather_report(clean, split, chat, LimitsConfig(), [])
