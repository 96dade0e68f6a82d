"""Reading a GGUF file back: each weight is the snapshot's, rounded once and no further."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retune.errors import ArtifactError
from retune.publishing.gguf_files.families import family_of
from retune.publishing.gguf_files.tensors import list_tensors

if TYPE_CHECKING:
    from gguf.gguf_reader import ReaderTensor
    from numpy.typing import NDArray
    from transformers import PretrainedConfig

    Values = NDArray[np.float32]

_BLOCK = 32
_SLACK = 1e-6
"""What float32 itself rounds in the comparison."""


def compare_weights(file: Path, weights: Path) -> float:
    """Compare every weight of a GGUF file with the snapshot that it was written from.

    The order of query and key rows is undone here row by row, apart from how it was made.

    Args:
        file: The GGUF file.
        weights: The snapshot.

    Returns:
        The largest difference, as a part of what the weight's number type may round; 0 where
        nothing was rounded.

    Raises:
        ArtifactError: A weight is missing, too many, of another shape, or further off.
    """
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(weights, local_files_only=True)
    found: dict[str, ReaderTensor] = {each.name: each for each in GGUFReader(file).tensors}
    largest = 0.0
    for tensor in list_tensors(weights, config):
        read = found.pop(tensor.target, None)
        if read is None:
            raise _wrong(file, f"weight {tensor.target} is missing")
        values = dequantize(read.data, read.tensor_type)
        if values.shape != tensor.plain.shape:
            raise _wrong(file, f"{tensor.target} has shape {values.shape}")
        values = _in_order(tensor.source, values, config)
        bound = rounding_bound(tensor.plain, read.tensor_type.name)
        difference = np.abs(values - tensor.plain)
        share = np.divide(
            difference, bound, out=np.where(difference > 0, np.inf, 0.0), where=bound > 0
        )
        largest = max(largest, float(share.max(initial=0.0)))
        # NaN is further off than any bound.
        if not largest <= 1.0:
            kind = read.tensor_type.name
            raise _wrong(file, f"{tensor.target} is further off than {kind} rounds")
    if found:
        raise _wrong(file, f"holds weights that the model does not have: {sorted(found)[:3]}")
    return largest


def rounding_bound(values: Values, kind: str) -> Values:
    """Return how far each weight may be off when it is rounded once.

    Args:
        values: In the order in which they were rounded, or in any where only rows moved.
        kind: F32, F16, BF16 or Q8_0.

    Returns:
        Half a step of the number type at each value: exact for F32; of Q8_0 half of a block's
        step, which is its largest value over 127, with what the step itself is rounded by.
    """
    size = np.abs(values)
    if kind == "F32":
        return np.zeros_like(size)
    if kind == "Q8_0":
        blocks = size.reshape(-1, _BLOCK)
        largest = blocks.max(axis=1, keepdims=True)
        bound = np.broadcast_to(largest * (0.5 / 127 + 2.0**-11) + 2.0**-25 * 127, blocks.shape)
        return np.asarray(bound.reshape(values.shape), dtype=np.float32)
    # bfloat16 keeps 8 bits of a value, float16 11 bits and nothing finer than 2^-24.
    relative, absolute = (2.0**-8, 2.0**-134) if kind == "BF16" else (2.0**-11, 2.0**-25)
    return np.asarray((size * relative + absolute) * (1 + _SLACK), dtype=np.float32)


def _in_order(source: str, values: Values, config: PretrainedConfig) -> Values:
    """Undo the order of query and key rows: place 2i of a head holds its row i."""
    if not family_of(config).permuted or not ("q_proj" in source or "k_proj" in source):
        return values
    heads = config.num_attention_heads if "q_proj" in source else config.num_key_value_heads
    width = values.shape[0] // heads
    places = [
        head * width + 2 * (row % (width // 2)) + row // (width // 2)
        for head in range(heads)
        for row in range(width)
    ]
    return values[places]


def _wrong(file: Path, found: str) -> ArtifactError:
    return ArtifactError(
        f"{file}: read back, {found}. Nothing was exported. Export with another --gguf-type "
        "(float16 holds no value over 65504), or --as merged."
    )
