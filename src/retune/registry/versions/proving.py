"""What proves that a version still is the model that was registered: prompts and their answers.

They are stored with the version, as texts and as token ids, when it is registered, together with
what a server needs to ask as the run did: how chats are written, and what ends an answer. A
version that is to be champion again has to load through MLflow, as a consumer loads it, and to
write the same tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationError

from retune.data.chats.faults import ChatFault
from retune.data.chats.messages import Message
from retune.data.chats.rendering import ChatRenderer
from retune.data.chats.tokenizing import tokenize
from retune.data.quality.sensitive import redact
from retune.errors import ArtifactError, ConfigError
from retune.records import Record
from retune.registry.forms.release_form import ReleaseForm, form_of_version
from retune.registry.mlflow_calls import as_service_error, patience
from retune.registry.versions.files import fetch_folder
from retune.registry.versions.finding import get_version
from retune.registry.versions.saving import look_up_models_at
from retune.tracking import connect

if TYPE_CHECKING:
    from retune.data.chats.tokenizers import Tokenizer
    from retune.inference.loaded_models import LoadedModel

ANSWERS_FILE = "retune_answers.json"


class StoredAnswer(Record):
    """A prompt and what the model answered, to the token."""

    prompt_ids: tuple[int, ...]
    answer: tuple[int, ...] | str
    """Ids of the tokens that it wrote; of a head, the name of the class."""
    prompt: str | None = None
    """The prompt as text; None where its ids are not those of the text alone (a template may cut
    it otherwise), and in versions of an earlier release of retune."""


class Rendering(Record):
    """A chat, and what the model is given for it."""

    messages: tuple[dict[str, str], ...]
    text: str | None
    """None where the chat template refuses it."""
    ids: tuple[int, ...] = ()


class StoredAnswers(Record):
    """What a version answered when it was registered."""

    made_on: str
    """Device and dtype, such as ``cpu float32``: others may round a near tie otherwise."""
    max_new_tokens: int
    rows: tuple[StoredAnswer, ...]
    end_ids: tuple[int, ...] = ()
    """Ids that end an answer; empty in versions of an earlier release, as all of the following."""
    system: str | None = None
    """The system message that the rows had."""
    user: Annotated[str | None, Field(exclude_if=lambda value: value is None)] = None
    """Template of the user message (`prompt.user`); None for the usual wording, and in versions of
    an earlier release."""
    reasoning_effort: str | None = None
    renderings: tuple[Rendering, ...] = ()
    """Chats of every shape as this version writes them."""

    @property
    def prompts(self) -> list[list[int]]:
        """Token ids per prompt."""
        return [list(row.prompt_ids) for row in self.rows]


def collect_answers(
    form: ReleaseForm,
    loaded: LoadedModel,
    rows: Sequence[dict[str, Any]],
    *,
    system: str | None = None,
    user: str | None = None,
    reasoning_effort: str | None = None,
) -> StoredAnswers:
    """Let a model answer held-out chats.

    Args:
        form: Its form.
        loaded: The model.
        rows: Chats, with `prompt`, `prompt_ids` and `answer_ids`. Whoever loads the version reads
            them: secrets and personal data in a prompt are redacted before it is asked.
        system: The system message that they have.
        user: The template of their user message; None for the usual wording.
        reasoning_effort: How much the model was asked to think.
    """
    rows = [_for_others(row, loaded) for row in rows]
    prompts = [list(row["prompt_ids"]) for row in rows]
    longest = max((len(row["answer_ids"]) for row in rows), default=1)
    answers = form.answer(loaded, prompts, longest)
    return StoredAnswers(
        made_on=_describe(loaded),
        max_new_tokens=longest,
        rows=tuple(
            StoredAnswer(
                prompt_ids=tuple(prompt),
                answer=answer if isinstance(answer, str) else tuple(answer),
                prompt=_as_cut(loaded, row["prompt"], prompt),
            )
            for row, prompt, answer in zip(rows, prompts, answers, strict=True)
        ),
        end_ids=tuple(loaded.end_ids),
        system=system,
        user=user,
        reasoning_effort=reasoning_effort,
        renderings=render_probes(loaded.tokenizer, system, reasoning_effort),
    )


def _for_others(row: dict[str, Any], loaded: LoadedModel) -> dict[str, Any]:
    prompt = redact(row["prompt"])
    if prompt == row["prompt"]:
        return row
    [(ids, _)] = tokenize(loaded.tokenizer, [prompt])
    return {**row, "prompt": prompt, "prompt_ids": ids}


def _as_cut(loaded: LoadedModel, text: str, ids: Sequence[int]) -> str | None:
    [(cut, _)] = tokenize(loaded.tokenizer, [text])
    return text if cut == list(ids) else None


_ASKED: Message = {"role": "user", "content": "Quantos clientes há em Évora?\n  <b>& 'etc.'</b> "}
_TOLD: Message = {"role": "system", "content": "Answer in one line. 日本語 ✓"}
_TURNS: tuple[Message, ...] = (
    _ASKED,
    {"role": "assistant", "content": "SELECT count(*)\nFROM t"},
    {"role": "user", "content": "And in Faro?"},
)


def render_probes(
    tokenizer: Tokenizer, system: str | None, effort: str | None
) -> tuple[Rendering, ...]:
    """Write chats of every shape: with and without system message, one turn and several.

    Args:
        tokenizer: With the chat template.
        system: The system message that rows have; another shape where there is one.
        effort: How much the model is asked to think.

    Raises:
        ConfigError: The chat template knows no reasoning effort.
    """
    renderer = ChatRenderer(tokenizer, effort=effort)
    own: Message = {"role": "system", "content": system}
    shapes = [(_ASKED,), (_TOLD, _ASKED), _TURNS, (_TOLD, *_TURNS)]
    shapes += [(own, _ASKED)] if system else []
    return tuple(_render(renderer, shape) for shape in shapes)


def _render(renderer: ChatRenderer, messages: tuple[Message, ...]) -> Rendering:
    try:
        text, ids = renderer.render_request(messages)
    except ChatFault:
        return Rendering(messages=messages, text=None)
    return Rendering(messages=messages, text=text, ids=tuple(ids))


def count_equal(stored: StoredAnswers, form: ReleaseForm, loaded: LoadedModel) -> int:
    """Return to how many prompts a model answers as it is stored, token for token."""
    answers = form.answer(loaded, stored.prompts, stored.max_new_tokens)
    found = [each if isinstance(each, str) else tuple(each) for each in answers]
    return sum(row.answer == each for row, each in zip(stored.rows, found, strict=True))


def prove_version(
    uri: str, model_name: str, version: int, *, cache_folder: Path | None = None
) -> int:
    """Prove that a version loads and answers its stored prompts token for token.

    Args:
        uri: Address of MLflow.
        model_name: The registered model.
        version: Its version.
        cache_folder: Where versions of a remote store are downloaded to, as in `find_opponent`.

    Returns:
        How many prompts it answered.

    Raises:
        ConfigError: There is no such version.
        ArtifactError: Files or answers are gone, it does not load, or answers otherwise.
        ServiceError: MLflow does not answer.
    """
    called = f"{model_name} version {version}"
    with as_service_error(uri), patience():
        client = connect(uri)
        found = get_version(client, model_name, version)
        if found is None:
            raise ConfigError(f"models:/{model_name}: there is no version {version}.")
        folder = fetch_folder(client, found, cache_folder)
    form = form_of_version(folder)
    if form is None:
        raise ArtifactError(
            f"{called}: its files in {folder} are gone or not those of a model that retune "
            "registers, so it cannot be champion. No alias was moved. Restore them, or name "
            "another version."
        )
    stored = read_answers(folder / ANSWERS_FILE, called)
    loaded = _load(uri, form, f"models:/{model_name}/{version}", called)
    equal = count_equal(stored, form, loaded)
    if equal < len(stored.rows):
        raise ArtifactError(
            f"{called}: it answers {len(stored.rows) - equal} of {len(stored.rows)} stored prompts "
            f"otherwise than when it was registered (on {stored.made_on}; here: "
            f"{_describe(loaded)}). No alias was moved. Where the two differ, try on such a "
            "device; else its files or the libraries are not what they were."
        )
    return equal


def read_answers(path: Path, called: str) -> StoredAnswers:
    """Read what a version answered when it was registered.

    Args:
        path: `ANSWERS_FILE` in its folder.
        called: The version, for messages.

    Raises:
        ArtifactError: The file is gone or damaged, or holds nothing.
    """
    try:
        stored = StoredAnswers.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise ArtifactError(
            f"{called}: {path} is not there, and without stored answers nothing proves what it is: "
            "it was registered before there were any, or the file was removed. No alias was "
            "moved. Run its recipe again, which stores them, or name another version."
        ) from error
    except (OSError, ValidationError) as error:
        raise ArtifactError(
            f"{path}: the stored answers of {called} cannot be read ({type(error).__name__}). No "
            "alias was moved. Restore the file, or name another version."
        ) from error
    if not stored.rows:
        raise ArtifactError(f"{path}: there is no stored prompt, so nothing proves {called}.")
    return stored


def _load(uri: str, form: ReleaseForm, address: str, called: str) -> LoadedModel:
    look_up_models_at(uri)
    try:
        with patience(), _without_bars():
            return form.reload(address)
    except Exception as error:  # of torch, safetensors, transformers or MLflow: it does not load
        raise ArtifactError(
            f"{called} does not load ({type(error).__name__}: {error!s:.300}). No alias was "
            "moved. Restore its files, or name another version."
        ) from error


def _describe(loaded: LoadedModel) -> str:
    return f"{loaded.model.device.type} {str(loaded.model.dtype).removeprefix('torch.')}"


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep transformers' bars out of what a command prints."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
