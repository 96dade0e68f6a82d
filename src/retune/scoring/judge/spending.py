"""What a judge's answers cost, and where a budget ends."""

from __future__ import annotations

import threading

from retune.recipe.sections.judge import JudgeBudget, JudgePrices
from retune.score_records import JudgeSpending

_MILLION = 1_000_000


class Purse:
    """Counts requests and tokens of one judging, from several threads.

    Args:
        budget: What it may take.
        prices: What tokens cost; None where that is not known.
    """

    def __init__(self, budget: JudgeBudget, prices: JudgePrices | None) -> None:
        self._budget, self._prices = budget, prices
        self._lock = threading.Lock()
        self._requests = self._input = self._output = 0

    def take_request(self) -> bool:
        """Count a request that is about to be sent.

        Returns:
            False where the budget is spent: then it is not to be sent, and not counted. Answers
            that are under way are not known yet, and may go beyond it.
        """
        with self._lock:
            if self._is_spent():
                return False
            self._requests += 1
            return True

    def add_tokens(self, read: int, written: int) -> None:
        """Count the tokens of an answer."""
        with self._lock:
            self._input += read
            self._output += written

    def tell(self, asked: int, reused: int) -> JudgeSpending:
        """Return what was spent.

        Args:
            asked: Questions that were answered now.
            reused: Questions whose answers were there.
        """
        return JudgeSpending(
            asked=asked,
            reused=reused,
            requests=self._requests,
            input_tokens=self._input,
            output_tokens=self._output,
            cost=self._cost(),
        )

    def _is_spent(self) -> bool:
        budget, cost = self._budget, self._cost()
        return (
            (budget.requests is not None and self._requests >= budget.requests)
            or (budget.tokens is not None and self._input + self._output >= budget.tokens)
            or (budget.cost is not None and cost is not None and cost >= budget.cost)
        )

    def _cost(self) -> float | None:
        if self._prices is None:
            return None
        read = self._input * self._prices.input_per_million
        return (read + self._output * self._prices.output_per_million) / _MILLION
