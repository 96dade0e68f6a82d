"""Recognises values that look like secrets, so that none is accepted or printed.

Secrets come from the environment or from a Prefect block. The patterns are those that the
services publish; they rather refuse a strange folder name than let a token through.
"""

from __future__ import annotations

import re

MASK = "***"

_SECRET = re.compile(
    r"""
      (?<![A-Za-z0-9])hf_[A-Za-z0-9]{16,}              # Hugging Face
    | (?<![A-Za-z0-9])sk-[A-Za-z0-9_-]{16,}            # OpenAI, Anthropic
    | (?<![A-Za-z0-9])gh[pousr]_[A-Za-z0-9]{16,}       # GitHub
    | github_pat_[A-Za-z0-9_]{16,}
    | (?<![A-Za-z0-9])glpat-[A-Za-z0-9_-]{16,}         # GitLab
    | (?<![A-Za-z0-9])pn[ub]_[A-Za-z0-9]{16,}          # Prefect Cloud
    | (?<![A-Za-z0-9])(?:AKIA|ASIA)[0-9A-Z]{16}        # AWS
    | (?<![A-Za-z0-9])xox[abeprs]-[A-Za-z0-9-]{10,}    # Slack
    | eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}[A-Za-z0-9_.-]*   # JSON web token
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----(?:.|\n)*
    | (?<=://)[^/\s:@]*:[^\s@]+(?=@)                   # user:password in an address
    | (?<=[?&])(?:password|passwd|token|access_token|api_key|sig)=[^&\s]+
    """,
    re.VERBOSE,
)

# Not every name that ends in "token": eos_token and pad_token are none of ours, but no secrets.
_SECRET_NAME = re.compile(
    r"""
      ^((hf|hub|api|access|auth|hugging_?face|wandb|github|prefect|mlflow|tracking)_)?token$
    | (^|_)(password|passwd|secret|credentials?|(api|access|secret|private)_?key)$
    """,
    re.VERBOSE | re.IGNORECASE,
)


def holds_secret(value: object) -> bool:
    """Tell whether a value, or an item of a list, looks like a secret.

    Args:
        value: Any value of a recipe.

    Returns:
        True where a text matches the form of a token, a key or an address with a password.
    """
    if isinstance(value, str):
        return _SECRET.search(value) is not None
    if isinstance(value, list | tuple):
        return any(holds_secret(item) for item in value)
    return False


def names_secret(key: str) -> bool:
    """Tell whether a key asks for a secret, such as `hub_token`.

    Args:
        key: One part of a dotted path.

    Returns:
        True for names such as token, hub_token, password, client_secret, api_key.
    """
    return _SECRET_NAME.search(key) is not None


def masked(text: str) -> str:
    """Replace everything in a text that looks like a secret.

    Args:
        text: A message for a person.

    Returns:
        The text with `***` in place of each secret.
    """
    return _SECRET.sub(MASK, text)
