"""The confusion matrix as a picture."""

import xml.etree.ElementTree as ElementTree

import pytest

from retune.errors import ScoringError
from retune.scoring.classification.picture import draw_confusion_png, draw_confusion_svg

_TEXT = "{http://www.w3.org/2000/svg}text"


def texts(svg: str) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(svg).iter(_TEXT)]


def diagonal(n: int, unparsable: int = 0) -> list[list[int]]:
    return [[1000 if at == row else 0 for at in range(n)] + [unparsable] for row in range(n)]


@pytest.mark.parametrize("n", [1, 2, 12, 30])
def test_every_label_is_named_at_both_sides_and_every_count_is_written(n: int) -> None:
    labels = [f"label {at}" for at in range(n)]
    written = texts(draw_confusion_svg(diagonal(n), labels))
    assert [written.count(label) for label in labels] == [2] * n
    assert written.count("1,000") == n


def test_unparsable_has_a_column_only_where_there_is_one() -> None:
    assert "(no label)" in texts(draw_confusion_svg(diagonal(2, unparsable=3), ["a", "b"]))
    assert "(no label)" not in texts(draw_confusion_svg(diagonal(2), ["a", "b"]))


def test_labels_are_text_and_nothing_else() -> None:
    """No formula, no mark-up, no colour, no control character that breaks the page."""
    labels = ["$\\frac{", "<script>x</script>", "fill: #010101;", "a\x00\nb", "é" * 100]
    written = texts(draw_confusion_svg(diagonal(5), labels))
    shown = ["$\\frac{", "<script>x</script>", "fill: #010101;", "a  b", "é" * 21 + "…"]
    assert [written.count(label) for label in shown] == [2] * 5


def test_the_svg_takes_its_colours_and_size_from_the_page() -> None:
    svg = draw_confusion_svg([[3, 1, 0], [0, 4, 0]], ["a", "b"])
    head = svg[: svg.index(">")]
    assert head.startswith('<svg role="img" aria-label=')
    assert " width=" not in head
    assert "currentColor" in svg
    assert "var(--right" in svg
    assert "var(--wrong" in svg
    assert "#01010" not in svg
    assert "http://purl.org" not in svg


def test_equal_matrices_give_equal_bytes() -> None:
    png = draw_confusion_png(diagonal(3), list("abc"))
    assert png == draw_confusion_png(diagonal(3), list("abc"))
    assert png.startswith(b"\x89PNG")
    assert draw_confusion_svg(diagonal(3), list("abc")) == draw_confusion_svg(
        diagonal(3), list("abc")
    )


@pytest.mark.parametrize("confusion", [[], [[1, 2], [3, 4]], [[1, 2, 0]]])
def test_a_matrix_of_another_shape_is_an_error(confusion: list[list[int]]) -> None:
    with pytest.raises(ScoringError, match="expected 2 rows of 3"):
        draw_confusion_png(confusion, ["a", "b"])
