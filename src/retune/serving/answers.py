"""Tokens as the text that a client gets: stop strings, thoughts, characters of several tokens."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from retune.data.chats.thoughts import TAGS, holds_thought
from retune.data.chats.tokenizers import Tokenizer
from retune.inference.generation import answer_text
from retune.inference.jobs import Chosen
from retune.serving.messages import Ask, Delta, Finished, TokenLogprob

_INCOMPLETE = "�"
_OPENINGS = tuple(begin.lower() for begin in ("<|channel|>", *(begin for begin, _ in TAGS)))


class AnswerWriter:
    """Collects the tokens of one choice and tells what can be told.

    A chat is shown as it is scored: without white space around, and without the thought before the
    answer. Stop strings are looked for in what is shown. A thought that the prompt opened and the
    model did not close is no thought for scoring either: at the end it is shown.

    Args:
        ask: The request.
        choice: Number of the choice, from 0.
        tokenizer: The model's own.
        end_ids: Ids that end an answer.
        prompt_tokens: Length of the prompt.
        max_tokens: Most tokens.
        thinks: Whether the prompt ends in a thought that the model is to close.
        tell: Given what goes to the client.
    """

    def __init__(
        self,
        ask: Ask,
        choice: int,
        *,
        tokenizer: Tokenizer,
        end_ids: Sequence[int],
        prompt_tokens: int,
        max_tokens: int,
        thinks: bool,
        tell: Callable[[Delta | Finished], None],
    ) -> None:
        self._ask, self._choice, self._tokenizer = ask, choice, tokenizer
        self._ends, self._tell, self._max_tokens = frozenset(end_ids), tell, max_tokens
        self._thinks, self._prompt_tokens = thinks, prompt_tokens
        self._ids: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self._sent = ""
        self._begun = time.monotonic()
        self._first: float | None = None

    def take(self, chosen: Chosen) -> bool:
        """Take a token; tells whether the answer has ended with it."""
        if self._first is None:
            self._first = time.monotonic() - self._begun
        if chosen.token in self._ends:
            return self._finish_whole("stop")
        self._ids.append(chosen.token)
        if chosen.logprob is not None:
            self._logprobs.append(self._named(chosen))
        # Without a stop string and a stream nobody needs the text before the end.
        if self._ask.stop or self._ask.stream:
            shown = self._shown()
            if not self._may_be_thought(shown):
                if (cut := self._find_stop(shown)) is not None:
                    return self._finish(shown[:cut], "stop")
                if self._ask.stream:
                    self._send(shown)
        if len(self._ids) >= self._max_tokens:
            return self._finish_whole("length")
        return False

    def _finish_whole(self, reason: str) -> bool:
        shown = self._shown()
        cut = self._find_stop(shown)
        return self._finish(shown, reason) if cut is None else self._finish(shown[:cut], "stop")

    def _find_stop(self, shown: str) -> int | None:
        """Return where the first stop string begins; None where there is none."""
        return min((at for stop in self._ask.stop if (at := shown.find(stop)) >= 0), default=None)

    def _shown(self) -> str:
        if self._ask.messages is None:
            return str(self._tokenizer.decode(self._ids, skip_special_tokens=True))
        return answer_text(self._tokenizer, self._ids)

    def _send(self, shown: str) -> None:
        ready = shown[: len(shown) - self._held(shown)]
        if len(ready) > len(self._sent) and ready.startswith(self._sent):
            self._tell(
                Delta(
                    id=self._ask.id,
                    choice=self._choice,
                    text=ready[len(self._sent) :],
                    logprobs=self._take_logprobs(),
                )
            )
            self._sent = ready

    def _may_be_thought(self, shown: str) -> bool:
        """Tell whether what there is may yet turn out to be a thought before the answer."""
        if self._ask.messages is None:
            return False
        if self._thinks:
            # Its tags may be control tokens.
            tagged = str(self._tokenizer.decode(self._ids, skip_special_tokens=False))
            self._thinks = not holds_thought(tagged)
        # As tags are read: in any case, and with blanks in them.
        begun = "".join(shown.split()).lower()
        return self._thinks or any(each.startswith(begun) for each in _OPENINGS)

    def _held(self, shown: str) -> int:
        """Return how many characters at the end may yet become something else."""
        whole = shown.rstrip(_INCOMPLETE)
        incomplete = len(shown) - len(whole)
        # A stop string may go on where a character is not whole yet.
        longest = max((len(stop) for stop in self._ask.stop), default=0)
        for length in range(min(longest - 1, len(whole)), 0, -1):
            if any(stop.startswith(whole[-length:]) for stop in self._ask.stop):
                return incomplete + length
        return incomplete

    def _finish(self, text: str, reason: str) -> bool:
        rest = text
        if self._sent:
            rest = text[len(self._sent) :] if text.startswith(self._sent) else ""
        self._tell(
            Finished(
                id=self._ask.id,
                choice=self._choice,
                text=rest,
                reason="stop" if reason == "stop" else "length",
                prompt_tokens=self._prompt_tokens,
                tokens=len(self._ids),
                first_token_seconds=self._first,
                logprobs=self._take_logprobs(),
            )
        )
        return True

    def _take_logprobs(self) -> tuple[TokenLogprob, ...]:
        taken, self._logprobs = tuple(self._logprobs), []
        return taken

    def _named(self, chosen: Chosen) -> TokenLogprob:
        def name(token: int) -> str:
            return str(self._tokenizer.decode([token], skip_special_tokens=False))

        assert chosen.logprob is not None
        return TokenLogprob(
            token=name(chosen.token),
            logprob=chosen.logprob,
            top=tuple((name(token), value) for token, value in chosen.top),
        )
