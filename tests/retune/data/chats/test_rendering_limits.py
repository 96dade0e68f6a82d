"""A chat template comes from whoever made the model: what it may cost, and what it may reach."""

from __future__ import annotations

import threading
import time

import pytest

from retune.data.chats import rendering_limits
from retune.data.chats.applying import ChatTemplate
from retune.data.chats.faults import ChatFault
from retune.data.chats.rendering_limits import render_within
from retune.data.chats.templates import refuse_costly
from retune.errors import ConfigError
from tests.chat_templates import dress

CHAT = [{"role": "user", "content": "?"}]
ENDLESS = (
    "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}"
    "{% endfor %}{% endfor %}{% endfor %}"
)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a chat take no longer than a fifth of a second."""
    monkeypatch.setattr(rendering_limits, "MOST_SECONDS", 0.2)
    monkeypatch.setattr(rendering_limits, "MOST_CHARACTERS", 100_000)


def write(text: str) -> str:
    return ChatTemplate(dress("chatml")[0], text).write(CHAT)


@pytest.mark.usefixtures("hurried")
def test_a_template_that_never_ends_is_stopped() -> None:
    """Its loops are 10^15 steps, which take years."""
    with pytest.raises(ConfigError, match=r"had not written one chat within 0\.2 s"):
        write(ENDLESS)


@pytest.mark.usefixtures("hurried")
def test_a_busy_machine_makes_no_template_costly() -> None:
    """Processor time counts: who waits for a turn, or is stopped for a while, takes none."""

    def wait() -> str:
        time.sleep(0.5)
        return "done"

    assert render_within(wait) == "done"


@pytest.mark.usefixtures("hurried")
def test_a_template_is_stopped_in_whatever_thread_renders() -> None:
    said: list[str] = []

    def try_it() -> None:
        try:
            write(ENDLESS)
        except ConfigError as error:
            said.append(str(error))

    thread = threading.Thread(target=try_it)
    thread.start()
    thread.join(60)
    assert len(said) == 1


@pytest.mark.usefixtures("hurried")
def test_after_one_was_stopped_the_next_is_written() -> None:
    """Nothing of the stop is left that would hit what comes after."""
    for _ in range(3):
        with pytest.raises(ConfigError):
            write(ENDLESS)
        assert write("{{ messages[0].content }}") == "?"


@pytest.mark.usefixtures("hurried")
def test_a_template_that_writes_a_book_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"writes 200,000 characters for one chat, and 100,000"):
        write("{{ 'xy' * 100000 }}")


def test_a_power_is_refused_before_anything_is_written() -> None:
    """9**9**9**9 has more digits than there are atoms, and no watch could stop the one step."""
    with pytest.raises(ConfigError, match=r"t\.jinja:2: the chat template raises a number"):
        refuse_costly("{{ 1 }}\n{{ 9 ** 9 ** 9 ** 9 }}", "t.jinja")


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__init__.__globals__ }}",
        "{{ raise_exception.__globals__['os'].environ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ messages.append(1) }}",
    ],
)
def test_a_template_that_reaches_out_of_the_sandbox_is_refused(text: str) -> None:
    """Attributes that lead to Python's own objects are none to a template."""
    with pytest.raises(ChatFault, match="refuses it"):
        write(text)
