"""Variables of the hub's library are refused by name, before it trips over them."""

from __future__ import annotations

import pytest

from retune.errors import ConfigError
from retune.hub_variables import refuse_wrong_hub_variables


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("HF_HUB_DOWNLOAD_TIMEOUT", "abc", "'abc', expected a whole number of seconds"),
        ("HF_HUB_ETAG_TIMEOUT", "1.5", "'1.5', expected a whole number of seconds"),
        ("HF_ENDPOINT", "hub.example", "expected an address such as https://huggingface.co"),
        ("HF_TOKEN", "hf_a\u00e9", "another sign in it"),
    ],
)
def test_a_value_that_cannot_be_read_is_named(name: str, value: str, said: str) -> None:
    """What the library raises for it names neither."""
    with pytest.raises(ConfigError, match=f"{name}: .*{said}") as caught:
        refuse_wrong_hub_variables({name: value})
    assert name != "HF_TOKEN" or value not in str(caught.value)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"HF_HUB_DOWNLOAD_TIMEOUT": "30", "HF_ENDPOINT": "https://mirror.example/hub"},
        {"HF_TOKEN": "", "HF_ENDPOINT": "", "HF_HUB_OFFLINE": "1"},
    ],
)
def test_what_can_be_read_is_taken(environment: dict[str, str]) -> None:
    """Nothing is said of it."""
    refuse_wrong_hub_variables(environment)
