"""Chat templates: those that come with retune, files, and the instruct sibling's."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Any

from retune.digests import digest_file, digest_json
from retune.errors import ConfigError
from retune.recipe.sections import PromptConfig
from retune.records import Source
from retune.text_files import MARK, read_json_object, read_text_file

if TYPE_CHECKING:
    from jinja2 import Environment
    from jinja2.nodes import Template
    from transformers import PreTrainedTokenizerBase

SHIPPED_TEMPLATES = ("headings", "instruction_en", "instruction_pt")
_FOLDER = Path(__file__).with_name("templates")
_TEMPLATE_FILE = "chat_template.jinja"
_CONFIG_FILE = "tokenizer_config.json"
_SNAPSHOT_FILES = (_TEMPLATE_FILE, _CONFIG_FILE)
FALLBACK_TEMPLATE = "headings"
"""For tokenizers without a template."""
_MARK_TAGS = re.compile(r"\{%-?\s*(end)?generation\s*-?%\}")
_MARKS = re.compile(r"\{%-?\s*generation\s*-?%\}")
_USER_TEXT = re.compile(r"\{#-?\s*retune\.user_with_context:\s*\n(.*?)\s*-?#\}", re.DOTALL)


def locate_template(
    prompt: PromptConfig,
    resolve: Callable[[Path], Path],
    resolve_model: Callable[[str], str],
) -> Source | None:
    """Find the chat template that a recipe asks for.

    Args:
        prompt: The recipe's section.
        resolve: Turns a path of the recipe into one of this machine.
        resolve_model: Turns a model of the recipe into a folder or a hub id.

    Returns:
        The file that holds it, known by its content; None for the tokenizer's own.

    Raises:
        ConfigError: There is no such template, or the model it is borrowed from has none.
    """
    if prompt.template is not None:
        return _locate_file(prompt.template, resolve)
    if prompt.template_from is None:
        return None
    model = resolve_model(prompt.template_from)
    folder = Path(model) if Path(model).is_dir() else _download_template(model)
    return _locate_in_snapshot(folder, prompt.template_from)


def _locate_file(name: str, resolve: Callable[[Path], Path]) -> Source:
    if name in SHIPPED_TEMPLATES:
        return locate_shipped(name)
    path = resolve(Path(name))
    if not path.is_file():
        raise ConfigError(
            f"prompt.template: {name!r} is neither a template that comes with retune "
            f"({', '.join(SHIPPED_TEMPLATES)}) nor a file ({path}). Correct the name or the path."
        )
    if path.suffix != ".jinja":
        raise ConfigError(f"prompt.template: {path}: expected a .jinja file with a chat template.")
    source = Source(digest=digest_file(path), path=path)
    _refuse_broken(read_template(source), str(path))
    return source


def locate_shipped(name: str) -> Source:
    """Return one of `SHIPPED_TEMPLATES` as a file."""
    path = _FOLDER / f"{name}.jinja"
    return Source(digest=digest_file(path), path=path)


def _download_template(model: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, allow_patterns=[_TEMPLATE_FILE, _CONFIG_FILE]))
    except HFValidationError as error:
        raise ConfigError(
            f"prompt.template_from {model!r}: neither a folder nor a hub id ({error})."
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ConfigError(
            f"prompt.template_from {model!r}: not a local folder, and the hub did not give it "
            f"({type(error).__name__}). Check the spelling and the network; for a gated model "
            "accept its licence and set HF_TOKEN; or save its chat template as a .jinja file and "
            "name that in prompt.template."
        ) from error


def _locate_in_snapshot(folder: Path, name: str) -> Source:
    path = folder / _TEMPLATE_FILE
    if not path.is_file():
        path = folder / _CONFIG_FILE
    text = _template_of(path)
    if text is None:
        raise ConfigError(
            f"prompt.template_from {name!r}: {folder} has no chat template, neither as "
            f"{_TEMPLATE_FILE} nor in {_CONFIG_FILE}. Name the instruct sibling of the base, or "
            f"a template that comes with retune in prompt.template ({', '.join(SHIPPED_TEMPLATES)})"
            "."
        )
    _refuse_broken(text, str(path))
    # What else stands in a tokenizer's configuration does not change the template.
    return Source(digest=digest_json({"chat_template": text}), path=path)


def read_template(source: Source) -> str:
    """Read the text of a located chat template.

    Args:
        source: From `locate_template`.

    Returns:
        The Jinja text.

    Raises:
        ConfigError: The file is gone, or holds no template any more.
    """
    text = _template_of(source.path)
    if text is None:
        raise ConfigError(f"{source.path}: holds no chat template (it did when the run began).")
    return text


def _template_of(path: Path, *, any_of: bool = False) -> str | None:
    if not path.is_file():
        return None
    if path.suffix != ".json":
        return read_text_file(path, ConfigError)
    found: Any = read_json_object(path, ConfigError).get("chat_template")
    if isinstance(found, list):  # several by name; the tokenizer itself uses the default too
        try:
            named = {str(one["name"]): one["template"] for one in found}
        except (TypeError, KeyError) as error:
            raise ConfigError(
                f"{path}: chat_template is a list of something else than names and templates."
            ) from error
        found = next(iter(named.values()), None) if any_of else named.get("default")
    return found.removeprefix(MARK) if isinstance(found, str) else None


def _refuse_broken(text: str, place: str) -> None:
    from jinja2 import TemplateSyntaxError

    try:
        # Filters and tests that there are not are found as it is compiled, not as it is parsed.
        _environment().compile(_without_marks(text), raw=True)
    except TemplateSyntaxError as error:
        raise ConfigError(f"{place}:{error.lineno}: no valid Jinja template ({error}).") from error
    except RecursionError as error:
        raise ConfigError(f"{place}: is nested deeper than Jinja can read.") from error
    if not _without_marks(text).strip():
        raise ConfigError(f"{place}: is empty; expected a chat template.")
    refuse_costly(text, place)


def _parse(text: str) -> Template:
    return _environment().parse(_without_marks(text))


def _environment() -> Environment:
    from jinja2 import Environment

    return Environment(extensions=["jinja2.ext.loopcontrols"])


def _without_marks(text: str) -> str:
    # The marks are an extension of transformers, not of Jinja.
    return _MARK_TAGS.sub("", text)


def refuse_costly(text: str, place: str) -> None:
    """Refuse a template with a single step that may take hours, which nothing could stop.

    Args:
        text: Jinja text; of one that cannot be read, rows will say what is wrong.
        place: Where it stands, for the message.

    Raises:
        ConfigError: It raises a number to a power.
    """
    from jinja2 import TemplateError, nodes

    try:
        powers = list(_parse(text).find_all(nodes.Pow))
    except (TemplateError, RecursionError):
        return
    if powers:
        raise ConfigError(
            f"{place}:{powers[0].lineno}: the chat template raises a number to a power (**), which "
            "no chat needs and which may take hours. Take that out, or name another template in "
            f"prompt.template ({', '.join(SHIPPED_TEMPLATES)}, or a .jinja file)."
        )


def name_template(template: Source | None, folder: Path) -> str:
    """Name the chat template that is used.

    Args:
        template: From `locate_template`.
        folder: The snapshot whose tokenizer is used.

    Returns:
        The name of one that comes with retune, else where it stands.
    """
    if template is None:
        if any(_template_of(folder / name, any_of=True) for name in _SNAPSHOT_FILES):
            return "the tokenizer's own"
        return f"{FALLBACK_TEMPLATE}, which comes with retune (the tokenizer has none)"
    path = template.path
    if path.parent == _FOLDER:
        return f"{path.stem}, which comes with retune"
    borrowed = path.name in _SNAPSHOT_FILES
    return f"that of {path.parent.name}" if borrowed else path.name


def list_switches(template: str) -> tuple[str, ...]:
    """List the variables by which a chat template can be told to write otherwise.

    Args:
        template: Jinja text.

    Returns:
        Their names, sorted: ``enable_thinking``, ``reasoning_effort``; not what every template has.
    """
    from jinja2 import TemplateError, meta

    try:
        found = meta.find_undeclared_variables(_parse(template))
    except (TemplateError, RecursionError):
        return ()  # rows will say what is wrong with it
    found -= {"raise_exception", "namespace", "range"}
    known = re.compile(r"messages|tools|documents|add_generation_prompt|\w+_tokens?|\w*strftime\w*")
    return tuple(sorted(name for name in found if not known.fullmatch(name)))


def has_marks(template: str) -> bool:
    """Say whether a chat template marks what the model writes (``{% generation %}``)."""
    return _MARKS.search(template) is not None


def find_user_text(template: str) -> str | None:
    """Return how a chat template wants question and context to be joined, where it says so.

    It says so in a comment, which every engine that serves the template ignores::

        {#- retune.user_with_context:
        {question}

        ### Input:
        {context}
        -#}

    Args:
        template: Jinja text.

    Returns:
        A text with ``{question}`` and ``{context}``; None when the template does not care.

    Raises:
        ConfigError: One of the two is missing in it, or something else stands in braces.
    """
    found = _USER_TEXT.search(template)
    if found is None:
        return None
    text = found.group(1)
    try:
        fields = sorted(name for _, name, _, _ in Formatter().parse(text) if name is not None)
    except ValueError:  # a single brace
        fields = []
    if set(fields) != {"question", "context"}:
        raise ConfigError(
            "The chat template's comment retune.user_with_context must hold {question} and "
            f"{{context}}, and no other brace that is not doubled: {text!r:.80}."
        )
    return text


def template_text(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a tokenizer's chat template; of several by name, the default one."""
    template: Any = tokenizer.chat_template
    return str(template["default"] if isinstance(template, dict) else template)


def knows_effort(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Say whether a tokenizer's chat template can be told how much the model shall think."""
    return "reasoning_effort" in template_text(tokenizer)


def training_template(tokenizer: PreTrainedTokenizerBase, loss_on: str) -> str:
    """Return a chat template with marks around what the model writes.

    Args:
        tokenizer: With the chat template that is used.
        loss_on: The recipe's choice, for the message.

    Returns:
        The tokenizer's own where it has marks, else TRL's variant of it.

    Raises:
        ConfigError: Neither is there.
    """
    own = template_text(tokenizer)
    if has_marks(own):
        return own
    from trl.chat_template_utils import get_training_chat_template

    try:
        return get_training_chat_template(tokenizer) or own
    except ValueError as error:
        raise ConfigError(
            f"prompt.loss_on: {loss_on}, but the chat template does not mark what the assistant "
            "writes ({% generation %} ... {% endgeneration %}), and TRL has no variant of it that "
            "does. Either set prompt.loss_on: answer, or use a template that comes with retune "
            f"({', '.join(SHIPPED_TEMPLATES)}), or put the marks into a copy of the template and "
            "name that file in prompt.template."
        ) from error
