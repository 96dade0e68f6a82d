"""Secrets and personal data in texts: kinds are named, or put in place of what matched."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from stdnum import luhn
from stdnum.br import cnpj, cpf

_SECRETS: dict[str, tuple[tuple[str, ...], re.Pattern[str]]] = {
    # Kind: texts one of which must occur (cheap), and the whole pattern.
    "private key": (
        ("PRIVATE KEY",),
        re.compile(r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"),
    ),
    "AWS key": (("AKIA", "ASIA"), re.compile(r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b")),
    "GitHub token": (
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{50,})"),
    ),
    "GitLab token": (("glpat-",), re.compile(r"\bglpat-[A-Za-z0-9_-]{20,}")),
    "Slack token": (("xox",), re.compile(r"\bxox[abeoprs]-[0-9A-Za-z-]{20,}")),
    "Hugging Face token": (("hf_",), re.compile(r"\bhf_[A-Za-z]{34,}\b")),
    "OpenAI-like key": (
        ("sk-",),
        re.compile(r"\bsk-(?=[A-Za-z_-]*[0-9])(?:[a-z]+[0-9]*-)*[A-Za-z0-9_-]{20,}"),
    ),
    "Google key": (("AIza",), re.compile(r"\bAIza[0-9A-Za-z_-]{35}")),
    "JSON web token": (
        ("eyJ",),
        re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    ),
}
_ASSIGNED = re.compile(
    r"(?:passw(?:or)?d|passwd|pwd|senha|secret|api[_-]?key|access[_-]?key|auth[_-]?token|token)"
    r"[\"']?\s*(?::=|[:=])\s*[\"']?([^\s\"'<>{}()$,;]{8,80})",
    re.IGNORECASE,
)
_LEAST_ENTROPY_BITS = 3.0  # Per character; words lie under it, random text of 12 signs above.

_EMAIL = re.compile(r"[\w.%+-]+@(?!example\.)[A-Za-z0-9](?:[A-Za-z0-9-]*\.)+[A-Za-z]{2,}\b")
_DIGITS = re.compile(r"\d(?:[ ./()-]{0,2}\d){7}")
_CPF = re.compile(r"(?<![\d.])\d{3}\.\d{3}\.\d{3}-\d{2}(?!\d)|(?i:\bcpf\D{0,12})(\d{11})(?!\d)")
_CNPJ = re.compile(
    r"(?<![\w.])[A-Z\d]{2}\.[A-Z\d]{3}\.[A-Z\d]{3}/[A-Z\d]{4}-\d{2}(?!\d)"
    r"|(?i:\bcnpj\D{0,12})(\d{14})(?!\d)"
)
_CARD = re.compile(r"(?<![\d.,-])\d(?:[ -]?\d){12,18}(?![\d.-]?\d)")
_CARD_LENGTHS = (
    # Beginnings that issuers hold, and how many digits their numbers have.
    (re.compile(r"4"), (13, 16, 19)),
    (re.compile(r"5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)"), (16,)),
    (re.compile(r"3[47]"), (15,)),
    (re.compile(r"3(?:0[0-5]|[68])"), (14,)),
    (re.compile(r"35(?:2[89]|[3-8])|6011|65|64[4-9]|606282"), (16,)),
)
_TELEPHONE = re.compile(
    # Brazil, with an area code in parentheses or a hyphen; +country code; national with a 0.
    r"(?<![\w.-])(?:\+?55[ .-]?)?(?:\([1-9]\d\) ?|[1-9]{2}[ .-])(?:9[ .]?\d{4}|[2-5]\d{3})"
    r"[ .-]?\d{4}(?![\w-])"
    r"|(?<![\w+])\+[1-9]\d{0,2}[ .-]?(?:\(?\d{1,4}\)?[ .-]?){2,4}\d{2,4}(?!\d)"
    r"|(?<![\w.,-])0\d{9,10}(?![\w.-]?\d)"
)


def find_secrets(text: str) -> frozenset[str]:
    """Name the kinds of secrets that a text seems to hold.

    Args:
        text: Any text.

    Returns:
        Kinds such as ``AWS key``; what matched is not among them.
    """
    found = {
        kind
        for kind, (hints, pattern) in _SECRETS.items()
        if any(hint in text for hint in hints) and pattern.search(text)
    }
    if (":" in text or "=" in text) and any(
        _looks_random(match[1]) for match in _ASSIGNED.finditer(text)
    ):
        found.add("assigned password")
    return frozenset(found)


def find_personal_data(text: str) -> frozenset[str]:
    """Name the kinds of personal data that a text seems to hold.

    Args:
        text: Any text.

    Returns:
        Kinds such as ``e-mail``. CPF, CNPJ and card numbers count only with right check digits, the
        first two without points only after their name, since one number of a hundred passes.
    """
    found = {"e-mail"} if "@" in text and _EMAIL.search(text) else set()
    if _DIGITS.search(text):
        found |= {
            kind
            for kind, (pattern, is_one) in _PATTERNS.items()
            if next(_matches(text, pattern, is_one), None)
        }
    return frozenset(found)


def redact(text: str) -> str:
    """Put the kind in brackets in place of secrets and personal data: ``[e-mail]``.

    Args:
        text: Any text.

    Returns:
        The text, in which `find_secrets` and `find_personal_data` name nothing. A private key goes
        from its first line to the end of the text, since nothing says where it stops.
    """
    for kind, (hints, pattern) in _SECRETS.items():
        if any(hint in text for hint in hints):
            found = pattern.search(text) if kind == "private key" else None
            text = text[: found.start()] + f"[{kind}]" if found else pattern.sub(f"[{kind}]", text)
    text = _ASSIGNED.sub(_without_password, text)
    text = _EMAIL.sub("[e-mail]", text)
    for kind, (pattern, is_one) in _PATTERNS.items():
        text = "".join(_parts(text, pattern, is_one, f"[{kind}]"))
    return text


def redact_values(value: Any) -> Any:
    """Redact every text in lists and mappings, as JSON has them; keys and numbers stay.

    Args:
        value: What `json` reads.
    """
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, list | tuple):
        return [redact_values(each) for each in value]
    if isinstance(value, dict):
        return {key: redact_values(each) for key, each in value.items()}
    return value


def _parts(
    text: str, pattern: re.Pattern[str], is_one: Callable[[re.Match[str]], bool], mark: str
) -> Iterator[str]:
    end = 0
    for match in _matches(text, pattern, is_one):
        yield text[end : match.start()]
        yield mark
        end = match.end()
    yield text[end:]


def _matches(
    text: str, pattern: re.Pattern[str], is_one: Callable[[re.Match[str]], bool]
) -> Iterator[re.Match[str]]:
    """Yield what is one; what only looks like it may have begun in the number before."""
    match = pattern.search(text)
    while match:
        found = is_one(match)
        if found:
            yield match
        match = pattern.search(text, match.end() if found else match.start() + 1)


def _without_password(match: re.Match[str]) -> str:
    if not _looks_random(match[1]):
        return match[0]
    begin = match.start(1) - match.start()
    return f"{match[0][:begin]}[assigned password]{match[0][begin + len(match[1]) :]}"


def _looks_random(value: str) -> bool:
    if not (re.search(r"\d", value) and re.search(r"[A-Za-z]", value)) or "://" in value:
        return False
    shares = [count / len(value) for count in Counter(value).values()]
    return -sum(share * math.log2(share) for share in shares) >= _LEAST_ENTROPY_BITS


def _is_card(digits: str) -> bool:
    issued = any(start.match(digits) and len(digits) in sizes for start, sizes in _CARD_LENGTHS)
    return issued and luhn.is_valid(digits)


_PATTERNS: dict[str, tuple[re.Pattern[str], Callable[[re.Match[str]], bool]]] = {
    # Kind: how it is written, and whether a match is one.
    "CPF": (_CPF, lambda match: bool(cpf.is_valid(match[1] or match[0]))),
    "CNPJ": (_CNPJ, lambda match: bool(cnpj.is_valid(match[1] or match[0]))),
    "card number": (_CARD, lambda match: _is_card(re.sub(r"\D", "", match[0]))),
    "telephone": (
        _TELEPHONE,
        # E.164 allows fifteen digits.
        lambda match: 8 <= sum(map(str.isdigit, match[0])) <= 15,
    ),
}
SECRET_KINDS = (*_SECRETS, "assigned password")
PERSONAL_KINDS = ("e-mail", *_PATTERNS)
