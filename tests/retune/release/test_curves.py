"""What the picture of a training shows."""

from __future__ import annotations

import re

from retune.release.curves import CurvePoint, draw_svg


def points(**curves: tuple[float, ...]) -> list[CurvePoint]:
    """Return curves with one value per step."""
    return [
        CurvePoint(name=name, value=value, step=step)
        for name, values in curves.items()
        for step, value in enumerate(values, start=1)
    ]


def texts(svg: str) -> set[str]:
    """Return the texts of a picture."""
    return set(re.findall(r"<text[^>]*>([^<]*)</text>", svg))


def test_the_watched_score_has_a_panel_of_its_own() -> None:
    """Beside the losses, and only where something was watched."""
    losses = points(train_loss=(3.0, 2.0), validation_loss=(3.0, 2.5))
    watched = points(validation_sql_execution_match=(0.0, 0.25))

    assert "execution match, validation" in texts(draw_svg(losses + watched))
    assert draw_svg(losses + watched).count('id="axes_') == 2
    assert draw_svg(losses).count('id="axes_') == 1


def test_a_loss_has_the_unit_of_its_training() -> None:
    """That of preferences is per pair, that of rewards none that could be compared."""
    loss = points(train_loss=(0.7, 0.5))

    assert "loss (nats per token)" in texts(draw_svg(loss))
    found = texts(draw_svg(loss + points(preference_accuracy=(0.5, 1.0))))
    assert {"loss (per pair)", "chosen answer gains more, training pairs"} <= found
    found = texts(draw_svg(loss + points(reward=(0.2, 0.4), groups_with_signal=(0.5, 0.5))))
    assert {"loss of the policy", "mean reward", "groups with signal"} <= found


def test_a_loss_below_zero_is_shown() -> None:
    """The axis of a policy's loss goes below 0; others begin there."""
    below = texts(draw_svg(points(train_loss=(-0.5, 0.5), reward=(0.1, 0.1))))
    above = texts(draw_svg(points(train_loss=(0.5, 1.0))))

    assert any(text.startswith("\N{MINUS SIGN}0.") for text in below)
    assert not any(text.startswith("\N{MINUS SIGN}") for text in above)
