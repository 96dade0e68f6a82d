"""A version as a GGUF file in an export's folder: written here or by llama.cpp, and proved."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from retune.errors import ArtifactError, ConfigError
from retune.model_records import ChampionRef
from retune.modeling.head_files import is_classifier_snapshot
from retune.publishing.choices import NumberType
from retune.publishing.gguf_files.converting import resolve_type, write_gguf
from retune.publishing.gguf_files.families import FAMILIES, family_of
from retune.publishing.gguf_files.verifying import compare_weights
from retune.publishing.gguf_files.vocabulary import name_pre_tokenizer
from retune.publishing.records import ExportProof, ExportRequest
from retune.publishing.snapshots import copy_snapshot
from retune.registry.versions.descriptions import VersionDescription

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from retune.inference.loaded_models import LoadedModel

_LAST_LINES = 12


def check_convertible(version: ChampionRef, request: ExportRequest) -> None:
    """Refuse a version that cannot be written as GGUF, before anything is written.

    Args:
        version: Plain weights.
        request: Names a converter, or none.

    Raises:
        ConfigError: The model cannot be written, or there is no such converter.
    """
    if is_classifier_snapshot(version.weights):
        raise ConfigError(
            f"version {version.version}: a classification head has no place in a GGUF file of a "
            "model that writes. Export it --as merged."
        )
    if request.converter is not None:
        if not request.converter.is_file():
            raise ConfigError(
                f"--converter {request.converter}: no such file. Expected llama.cpp's "
                "convert_hf_to_gguf.py, in a checkout with its gguf-py beside it."
            )
        return
    family_of(_config_of(version.weights))
    name_pre_tokenizer(version.tokenizer)


def write_gguf_export(
    version: VersionDescription, request: ExportRequest, folder: Path
) -> tuple[str, ExportProof | None]:
    """Write a version as a GGUF file, read it back and compare.

    Args:
        version: Plain weights.
        request: Number type, converter, whether it is loaded too.
        folder: Of the export.

    Returns:
        The file's name, and the proof; None where it was not asked for or transformers does not
        read such a file.

    Raises:
        ConfigError: The model cannot be written.
        ArtifactError: The converter failed, or the file is not what the version is.
    """
    located = version.located
    config = _config_of(located.weights)
    kind = resolve_type(request.number_type, config)
    file = folder / f"{version.model_name}-{located.version}-{kind.upper()}.gguf"
    known = config.model_type in FAMILIES
    if request.converter is not None:
        _convert(version, request.converter, kind, file)
    else:
        write_gguf(
            located.weights, located.tokenizer, file, number_type=kind, name=version.model_name
        )
    largest = compare_weights(file, located.weights) if known else None
    if not request.prove or not known:
        return file.name, None
    return file.name, _prove(version, file, largest)


def _prove(version: VersionDescription, file: Path, largest: float | None) -> ExportProof:
    """Load the file through transformers' reader, which was written apart from this, and compare.

    Where weights were rounded, an answer may differ, and how many did is told.
    """
    from retune.publishing.proof import prove_export

    located = version.located
    return prove_export(
        located.as_scored(),
        partial(_load, file, located),
        version.prompts,
        f"version {located.version}",
        exact=largest == 0.0,
        max_weight_difference=largest,
    )


def _load(file: Path, version: ChampionRef) -> LoadedModel:
    from transformers import AutoModelForCausalLM

    from retune.data.chats.tokenizers import end_token_ids, load_tokenizer
    from retune.inference.loaded_models import LoadedModel
    from retune.modeling.devices import choose_device, choose_dtype

    device = choose_device()
    # The reader leaves out settings that a file has, such as how wide a head of Qwen 3 is.
    model = AutoModelForCausalLM.from_pretrained(
        file.parent,
        gguf_file=file.name,
        config=_config_of(version.weights),
        dtype=choose_dtype("auto", device),
        local_files_only=True,
    )
    tokenizer = load_tokenizer(version.tokenizer)
    ends = end_token_ids(tokenizer, version.tokenizer)
    return LoadedModel(model.to(device).eval(), tokenizer, ends)


def _convert(version: VersionDescription, converter: Path, kind: NumberType, file: Path) -> None:
    """Let llama.cpp's converter write the file, from weights and tokenizer in one folder."""
    with TemporaryDirectory(dir=file.parent) as folder:
        snapshot = Path(folder)
        copy_snapshot(version.located, snapshot, "2GB", linked=True)
        command = [sys.executable, str(converter), str(snapshot)]
        command += ["--outfile", str(file), "--outtype", kind, "--model-name", version.model_name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not file.is_file():
        last = "\n".join((done.stderr or done.stdout).splitlines()[-_LAST_LINES:])
        raise ArtifactError(
            f"{converter}: ended with exit code {done.returncode} and nothing was exported. It "
            f"said:\n{last}"
        )


def _config_of(folder: Path) -> PretrainedConfig:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder, local_files_only=True)
