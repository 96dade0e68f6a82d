"""What the stages around a training need, whatever the machine has that they will run on."""

from __future__ import annotations

from retune.modeling.placement import FormSizes
from retune.recipe.sections.scoring import Form
from retune.records import ContentRecord


class StageSizes(ContentRecord):
    """Sizes of the model that a recipe names, by what is done with it."""

    scored: dict[Form, FormSizes]
    """As scorers load it, over batches of the held-out rows and texts; empty where the work cannot
    be followed without weights."""
    reference: FormSizes | None = None
    """Unquantized in `model.dtype`, reading the reference text: what is lost by quantizing."""
    checked: FormSizes | None = None
    """In float32 over the rows that the released model is compared on with what was trained."""
    written: FormSizes | None = None
    """As training starts from it: what quantizing writes, one layer after the other. Its work is
    none."""
    in_four_bits: bool = False
    """Whether the snapshot itself is in 4 bits, whose layers cannot be offloaded."""
    block_bytes: int = 0
    """Of the largest decoder block as it is trained: what several devices gather at once."""
    fault: str = ""
    """Why nothing was counted."""


class JudgeSizes(ContentRecord):
    """Sizes of a judge of this machine."""

    asked: FormSizes | None
    """Plain, as it is loaded to compare answers; None where that cannot be followed."""
    offloadable: bool = True
    """Whether layers of it may wait on the disk: not those of an adapter's base or in 4 bits."""
    fault: str = ""
    """Why nothing was counted."""
