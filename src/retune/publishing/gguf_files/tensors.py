"""A snapshot's weights as llama.cpp has them: names, order of rows, number types."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retune.errors import ConfigError
from retune.publishing.choices import NumberType
from retune.publishing.gguf_files.families import family_of, head_width, rope_of

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType
    from numpy.typing import NDArray
    from transformers import PretrainedConfig

    Values = NDArray[np.float32]

ROPE_FACTORS = "rope_freqs.weight"
_QUERY_OR_KEY = ("q_proj", "k_proj")


@dataclass(frozen=True)
class NamedTensor:
    """One weight.

    Attributes:
        source: Its name in the snapshot.
        target: Its name in a GGUF file.
        values: In float32, in the order of a GGUF file.
        plain: The same in the snapshot's order.
    """

    source: str
    target: str
    values: Values
    plain: Values


def list_tensors(folder: Path, config: PretrainedConfig) -> Iterator[NamedTensor]:
    """Yield the weights of a snapshot, one at a time.

    Args:
        folder: The snapshot.
        config: Its configuration; of a known family.

    Yields:
        Each weight in float32, which holds bfloat16 and float16 without rounding.

    Raises:
        ConfigError: A weight has no name in the format.
    """
    from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map
    from safetensors import safe_open

    family = family_of(config)
    known = {MODEL_ARCH_NAMES[each]: each for each in MODEL_ARCH}
    names = get_tensor_name_map(known[family.architecture], config.num_hidden_layers)
    with ExitStack() as stack:
        for path in sorted(folder.glob("*.safetensors")):
            # numpy has no bfloat16.
            file = stack.enter_context(safe_open(path, framework="pt"))
            for source in sorted(file.keys()):
                target = names.get_name(source, try_suffixes=(".weight", ".bias"))
                if target is None:
                    raise ConfigError(
                        f"{path}: weight {source} has no place in a GGUF file of the architecture "
                        f"{family.architecture}. Export --as merged."
                    )
                plain = file.get_tensor(source).float().numpy()
                yield NamedTensor(source, target, _ordered(source, plain, config), plain)
    factors = rope_factors(config)
    if factors is not None:
        yield NamedTensor("", ROPE_FACTORS, factors, factors)


def interleave(values: Values, heads: int) -> Values:
    """Bring the rows of a query or key projection into llama.cpp's order.

    Within a head of width d, transformers rotates row i with row i + d/2; llama.cpp rotates row 2i
    with row 2i + 1.

    Args:
        values: ``(heads * d, ...)``.
        heads: Of this projection.

    Returns:
        The same rows: i of a head's first half at 2i, and of its second half at 2i + 1.
    """
    width = values.shape[0] // heads
    halves = values.reshape(heads, 2, width // 2, *values.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))


def rope_factors(config: PretrainedConfig) -> Values | None:
    """Return by what llama.cpp divides each frequency of Llama 3's long contexts; else None.

    Args:
        config: Of the snapshot.

    Returns:
        ``(head width / 2,)``.
    """
    if rope_of(config)["rope_type"] != "llama3":
        return None
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    stretched = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")[0].double().numpy()
    width = head_width(config)
    plain = 1 / float(rope_of(config)["rope_theta"]) ** (np.arange(0, width, 2) / width)
    return np.asarray(plain / stretched, dtype=np.float32)


def choose_type(tensor: NamedTensor, wanted: NumberType) -> GGMLQuantizationType:
    """Return the number type of one weight.

    Args:
        tensor: The weight. Vectors stay in float32, as llama.cpp's kernels need them.
        wanted: Of the file; not auto.
    """
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    if tensor.values.ndim < 2 or wanted == "f32":
        return GGMLQuantizationType.F32
    kind = GGMLQuantizationType[wanted.upper()]
    fits = tensor.values.shape[-1] % GGML_QUANT_SIZES[kind][0] == 0
    return kind if fits else GGMLQuantizationType.F16


def _ordered(source: str, plain: Values, config: PretrainedConfig) -> Values:
    if not family_of(config).permuted or not any(each in source for each in _QUERY_OR_KEY):
        return plain
    heads = config.num_attention_heads if "q_proj" in source else config.num_key_value_heads
    return interleave(plain, heads)
