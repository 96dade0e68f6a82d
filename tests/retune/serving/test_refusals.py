"""What a body is told that is no request."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from retune.serving.refusals import unreadable
from retune.serving.requests import ChatRequest


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"messages": [{"role": "user", "content": "a\0b"}]}, "messages.0.content"),
        ({"stop": [1]}, "stop"),
        ({"messages": []}, "messages"),
        ({"no such": 1}, "no such"),
    ],
)
def test_a_fault_is_placed_by_names_that_stand_in_the_request(
    fields: dict[str, Any], place: str
) -> None:
    """Where a field takes several kinds, none of their names is told."""
    with pytest.raises(ValidationError) as raised:
        ChatRequest.model_validate(
            {"model": "m", "messages": [{"role": "user", "content": "oi"}], **fields}
        )
    assert unreadable(raised.value).param == place
