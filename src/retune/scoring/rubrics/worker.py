"""The process in which an answer's own text decides what is computed: patterns, JSON, Python.

A pattern may take for ever on some answer, a text may nest deeper than a parser goes, and a
compiler may die of it: all of that ends this process and nothing else. It reads one JSON request a
line and answers one; what it may use is limited as for queries. Nothing of an answer is run.
"""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from retune.sql.worker import restrict_process

_FENCE = re.compile(r"^[ \t]*(```|~~~)[^\n]*\n(.*?)^[ \t]*\1[ \t]*$", re.MULTILINE | re.DOTALL)
_DETAIL_CHARS = 200

Rule = dict[str, Any]


class Finding(NamedTuple):
    """What is said of one answer.

    Attributes:
        passed: Whether it keeps to the rule.
        reason: Why not; empty where it does.
    """

    passed: bool
    reason: str = ""


def check_json(text: str, rule: Rule) -> Finding:
    """Say whether a text is JSON, and fits the schema of the rule where it has one."""
    try:
        value = json.loads(
            _unfenced(text, rule), parse_constant=_refuse_constant, object_pairs_hook=_as_object
        )
    except ValueError as error:
        return Finding(False, f"no JSON: {error}")
    except RecursionError:
        return Finding(False, "no JSON: nested too deeply")
    if rule["json_schema"] is None:
        return Finding(True)
    unlike = next(_validator(json.dumps(rule["json_schema"])).iter_errors(value), None)
    if unlike is None:
        return Finding(True)
    place = "/".join(map(str, unlike.absolute_path)) or "its top"
    return Finding(False, f"unlike the schema at {place}: {unlike.message}")


def check_regex(text: str, rule: Rule) -> Finding:
    """Say whether a text matches where it shall, or does not where it must not."""
    pattern = re.compile(rule["pattern"])
    found = pattern.fullmatch(text) if rule["whole"] else pattern.search(text)
    if (found is not None) == rule["wanted"]:
        return Finding(True)
    return Finding(False, "does not match" if found is None else f"has {found[0]!r}")


def check_python(text: str, rule: Rule) -> Finding:
    """Say whether a text compiles as Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compile(_unfenced(text, rule), "answer", "exec", dont_inherit=True)
        except SyntaxError as error:
            return Finding(False, f"line {error.lineno}: {error.msg}")
        except (ValueError, RecursionError, OverflowError) as error:
            return Finding(False, str(error))
    return Finding(True)


CHECKS: dict[str, Callable[[str, Rule], Finding]] = {
    "json": check_json,
    "regex": check_regex,
    "python": check_python,
}
"""What runs in here, by the rubric's kind."""


def _unfenced(text: str, rule: Rule) -> str:
    found = _FENCE.search(text) if rule["in_fence"] else None
    return found[2] if found else text


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is none")


def _as_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has a key twice")
    return found


@lru_cache(maxsize=8)
def _validator(schema: str) -> Any:
    from jsonschema.validators import validator_for
    from referencing import Registry

    read = json.loads(schema)
    # An empty registry: no reference leads out of the schema, into the network least of all.
    return validator_for(read)(read, registry=Registry())


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Check one answer.

    Args:
        request: `kind` and `rule` of the rubric, and the `text`.

    Returns:
        `passed` and `reason`, or that memory ran out.
    """
    try:
        found = CHECKS[request["kind"]](request["text"], request["rule"])
    except MemoryError:
        return {"status": "out_of_memory", "detail": ""}
    except RecursionError:
        # Of a schema that refers to itself, on a text that nests as deeply.
        return {"status": "failed", "detail": "nested too deeply"}
    return {"status": "ok", "passed": found.passed, "reason": found.reason[:_DETAIL_CHARS]}


def main() -> None:
    """Answer requests until standard input ends, or memory ran out once."""
    restrict_process(int(sys.argv[1]), int(sys.argv[2]))
    _say({"status": "ready"})
    for line in sys.stdin.buffer:
        reply = answer(json.loads(line))
        _say(reply)
        if reply["status"] == "out_of_memory":
            return


def _say(reply: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()
