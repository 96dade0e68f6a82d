"""Data sets as other trainers name them, turned into `data.train` and `data.test`.

Only what a source says by itself is taken over. A layout or an option that retune does not have is
refused by name: rows that are read otherwise than the file says make another model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_FILE = re.compile(r"\.(jsonl|ndjson|json|csv|tsv|parquet)(\.gz)?\Z", re.IGNORECASE)
_ON_HUB = re.compile(r"[\w-][\w.-]*/[\w.-]+\Z")
_READERS = ("json", "csv", "parquet", "text", "arrow")
_LAYOUTS = {
    "alpaca": "instruction",
    "gpteacher": "instruction",
    "alpaca_chat.load_qa": "instruction",
    "sharegpt": "conversations",
    "chat_template": "messages",
    "completion": "text",
    "pretrain": "text",
}
_TURNS = {("role", "content"): "messages", ("from", "value"): "conversations"}
_COLUMNS = {
    "field_instruction": "question",
    "field_input": "context",
    "field_output": "answer",
    "field_messages": "messages",
    "field": "answer",
    "text_column": "answer",
}
_NO_MEANING = frozenset({"ds_type", "preprocess_shards", "trust_remote_code"})
_AS_IT_IS = {
    "chat_template": ("tokenizer_default",),
    "conversation": ("chatml",),
    "train_on_eos": ("turn", "all"),
    "train_on_eot": ("turn", "all"),
    "roles_to_train": (["assistant"], ["gpt"], ["assistant", "gpt"], ["gpt", "assistant"]),
}
_BY_HAND = "write data.train by hand: [{path: FILE, format: ..., columns: ...}], see docs/data.md"


def listed_sources(value: Any, beside: Mapping[str, Any]) -> object:
    """Turn a list of data sets with path and type into sources.

    Args:
        value: A list of mappings, or one.
        beside: Not looked at.

    Returns:
        The same as `data.train` has it.

    Raises:
        ValueError: A data set asks for what a source cannot say.
    """
    entries = value if isinstance(value, list) else [value]
    if not entries:
        raise ValueError(f"is an empty list; {_BY_HAND}")
    return [_source(entry, place) for place, entry in enumerate(entries)]


def named_sources(value: Any, beside: Mapping[str, Any]) -> object:
    """Turn a data set's name, or several with commas between, into sources.

    Args:
        value: The text.
        beside: Not looked at.

    Returns:
        Files and hub datasets.

    Raises:
        ValueError: A name is of a list that another program keeps.
    """
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"found no name or list of names; {_BY_HAND}")
    return [_named(name.strip()) for name in names if name.strip()]


def _named(name: str) -> dict[str, str]:
    _refuse_address(name)
    if _is_file(name):
        return {"path": name}
    if _ON_HUB.match(name):
        return {"hub": name}
    raise ValueError(
        f"found {name!r}, an entry of a list that another program keeps (dataset_info.json); "
        "write what stands behind it as data.train: a file, or {hub: owner/name}"
    )


def _source(entry: Any, place: int) -> dict[str, Any]:
    if isinstance(entry, str):
        return _named(entry)
    if not isinstance(entry, Mapping) or not isinstance(entry.get("path"), str):
        raise ValueError(f"entry {place + 1} has no path; {_BY_HAND}")
    given = {key: each for key, each in entry.items() if each not in (None, "", [], {})}
    for key in ("path", "data_files"):
        _refuse_address(given.get(key))
    source = _place(given)
    layout, columns = _layout(given)
    if layout:
        source["format"] = layout
    for key, role in _COLUMNS.items():
        if key in given:
            columns[role] = given[key]
    if columns:
        source["columns"] = columns
    _refuse_rest(given)
    return source


def _place(given: Mapping[str, Any]) -> dict[str, Any]:
    path, files = given["path"], given.get("data_files")
    if files is not None and (path in _READERS or _is_folder(path)):
        if not isinstance(files, str):
            raise ValueError("has several data_files; write each as a source of data.train")
        return {"path": files if path in _READERS else f"{path.rstrip('/')}/{files}"}
    if _is_file(path) or _is_folder(path) or "ds_type" in given:
        return {"path": path}
    if files is not None:
        raise ValueError(f"has data_files of {path}; name them by path, or the set by {{hub: ...}}")
    known = {"split": "split", "name": "config", "revision": "revision"}
    return {"hub": path, **{new: given[old] for old, new in known.items() if old in given}}


def _layout(given: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    kind = given.get("type")
    if kind is None:
        return None, {}
    if isinstance(kind, Mapping):
        asked = {key: each for key, each in kind.items() if each not in (None, "")}
        columns = {_COLUMNS[key]: asked.pop(key) for key in list(asked) if key in _COLUMNS}
        if asked:
            raise ValueError(
                f"type has {', '.join(sorted(asked))}: a text around the rows is prompt.user with "
                "{question} and {context}, and prompt.system"
            )
        return "instruction", columns
    layout = _LAYOUTS.get(kind) if isinstance(kind, str) else None
    if layout is None:
        raise ValueError(f"type {kind!r} is none of {', '.join(_LAYOUTS)}; {_BY_HAND}")
    return _turns_of(given, layout), {}


def _turns_of(given: Mapping[str, Any], layout: str) -> str:
    """Tell by the names of role and content which layout of turns is meant."""
    if layout not in ("messages", "conversations"):
        return layout
    names = dict(given.get("message_property_mappings") or {})
    role = given.get("message_field_role", names.pop("role", None))
    content = given.get("message_field_content", names.pop("content", None))
    if role is None and content is None:
        return layout
    named = isinstance(role, str) and isinstance(content, str)
    found = _TURNS.get((role, content)) if named else None
    if found is None or names:
        raise ValueError(
            f"turns have {role!r} and {content!r}; read are role and content, or from and value"
        )
    return found


def _refuse_rest(given: Mapping[str, Any]) -> None:
    known = {"path", "type", "data_files", "split", "name", "revision", *_COLUMNS, *_NO_MEANING}
    known |= {"message_field_role", "message_field_content", "message_property_mappings"}
    for key, value in given.items():
        usual = _AS_IT_IS.get(key)
        if key in known or value is False or (usual and value in usual):
            continue
        if key in ("chat_template", "chat_template_jinja", "conversation"):
            raise ValueError(f"{key} is one for the whole recipe: write prompt.template")
        if key == "roles_to_train":
            raise ValueError("roles_to_train: prompt.loss_on says which turns are learned")
        if key in ("train_on_eos", "train_on_eot"):
            raise ValueError(
                f"{key} is {value}, but the end of each answer that is learned is learned too; "
                "remove it"
            )
        raise ValueError(f"{key} is not offered for a source; {_BY_HAND}")


def _refuse_address(name: object) -> None:
    if isinstance(name, str) and "://" in name:
        raise ValueError(
            f"found {name}, an address: download the rows, and write data.train: [{{path: FILE}}]"
        )


def _is_file(name: str) -> bool:
    return _FILE.search(name) is not None


def _is_folder(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.count("/") > 1
