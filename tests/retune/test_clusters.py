"""Joining a cluster of Ray: how long an address is asked, and how long an own head has to start."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from retune import clusters
from retune.clusters import expect_training_cluster, joined_to_ray
from retune.errors import ConfigError, ServiceError

WAIT = "RAY_gcs_server_port_wait_time_s"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """What Ray reads of its waiting time whenever it is initialized; address "no" answers none."""
    seen = list[str | None]()

    def init(address: str, **_: Any) -> None:
        seen.append(os.environ.get(WAIT))
        if address == "no":
            raise ConnectionError("no Ray")

    fake = SimpleNamespace(init=init, shutdown=lambda: None)
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.delenv(WAIT, raising=False)
    return seen


def test_only_a_named_address_is_asked_once(waits: list[str | None]) -> None:
    """A head of this machine has its whole time; what starts later is left alone by both."""
    with joined_to_ray("head:6379"):
        assert WAIT not in os.environ
    with joined_to_ray(None):
        assert WAIT not in os.environ
    with pytest.raises(ServiceError, match="no Ray"), joined_to_ray("no"):
        raise AssertionError
    assert waits == ["1", None, "1"]
    assert WAIT not in os.environ


def test_a_waiting_time_that_was_set_is_kept(
    waits: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever set it knows the cluster."""
    monkeypatch.setenv(WAIT, "30")
    with joined_to_ray("head:6379"):
        pass
    assert waits == ["30"]
    assert os.environ[WAIT] == "30"


def test_a_training_over_nodes_needs_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before anybody is asked; a training on this machine needs none."""
    monkeypatch.setattr(clusters, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"runner.kind: ray.*pip install 'retune\[ray\]'"):
        expect_training_cluster("head:6379")
    expect_training_cluster(None)
