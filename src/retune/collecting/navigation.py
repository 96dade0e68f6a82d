"""Whole pages that help to find or to license text, and are none."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from retune.collecting.failures import LICENCE, NAVIGATION, PageFailed

_MOST_LINKED = 0.6
"""Above this share of linked text a page leads elsewhere."""
_LICENCE_NAME = re.compile(
    r"licen[cs]e|licen[çc]a|copyright|copying|direitos.autorais|terms.of.(use|service)"
    r"|termos.de.uso|privacy.policy|pol[ií]tica.de.privacidade",
    re.I,
)
_LEGAL = tuple(
    re.compile(phrase, re.I)
    for phrase in (
        r"permission (is hereby granted|to use, copy)|é concedida permissão",
        r"without warrant(y|ies)|warranties of|sem (qualquer )?garantia",
        r"merchantability|comercialização",
        r"in no event|em nenhuma hipótese|em nenhum caso",
        r"\bliab(le|ility)\b|responsabilidade",
        r"\bhereby\b|\bherein\b|por meio deste",
        r"licensors?\b|licensees?\b|licenciante",
        r"copyright notice|all rights reserved|todos os direitos reservados",
        r"redistributions?\b|redistribui",
        r"personal (data|information)|dados pessoais",
    )
)
_SURELY_LEGAL, _NAMED_LEGAL = 6, 2


def refuse_linked(linked: int, total: int) -> None:
    """Refuse a page most of whose text is linked.

    Args:
        linked: Characters inside links.
        total: All characters.

    Raises:
        PageFailed: The share is that of a navigation page.
    """
    if total and linked / total > _MOST_LINKED:
        raise PageFailed(NAVIGATION, f"{linked / total:.0%} of its text is linked")


def refuse_licence(source: str, title: str, text: str) -> None:
    """Refuse a page that is a licence, terms of use or the like.

    A name alone does not make one (a tutorial may explain licences), nor does one phrase.

    Args:
        source: Address or path.
        title: The page's title.
        text: Its main content.

    Raises:
        PageFailed: Its name and its words say so, or its words leave no doubt.
    """
    phrases = sum(bool(pattern.search(text)) for pattern in _LEGAL)
    last = urlsplit(source).path.rstrip("/").rpartition("/")[2]
    named = bool(_LICENCE_NAME.search(title) or _LICENCE_NAME.search(last))
    if phrases >= _SURELY_LEGAL or (named and phrases >= _NAMED_LEGAL):
        raise PageFailed(LICENCE, f"{phrases} kinds of legal phrases")
