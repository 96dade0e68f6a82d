"""Texts of others on a terminal or a page."""

from __future__ import annotations

import unicodedata

from retune.visible_text import visible


def test_what_steers_a_screen_is_written_out() -> None:
    """Escape, bell, the one-sign CSI, and marks that turn the order of letters."""
    assert visible("a\x1b[31mb\x07\x9b2J\u202ec\u2066") == r"a\x1b[31mb\x07\x9b2J\u202ec\u2066"


def test_lines_tabs_and_letters_of_any_language_stay() -> None:
    text = "São\n\tשלום 日本 👩🏽‍💻 <b>&amp;</b>"
    assert visible(text) == text


def test_no_control_sign_is_left() -> None:
    """Of all signs there are: category Cc, but tab and line feed, and the bidi classes of marks."""
    marks = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    left = [
        sign
        for sign in map(chr, range(0x110000))
        if unicodedata.category(sign) == "Cc" or unicodedata.bidirectional(sign) in marks
        if visible(sign) == sign
    ]
    assert left == ["\t", "\n"]
