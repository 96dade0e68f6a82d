"""Importing at once: the module is there, and the collector is as it was."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import pytest

from retune.spine.importing import import_at_once


@pytest.fixture
def thawed() -> None:
    """Take nothing for permanent that another test froze; those are few, and only slow it down."""
    gc.unfreeze()


def test_what_is_imported_is_taken_for_permanent(
    thawed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module of a thousand lists leaves at least as many objects that no pass looks at."""
    (tmp_path / "many_lists.py").write_text("LISTS = [[] for _ in range(1000)]\n", "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = import_at_once("many_lists")
    assert len(module.LISTS) == 1000
    assert gc.get_freeze_count() >= 1000
    assert gc.isenabled()


def test_the_collector_works_again_after_an_import_that_fails() -> None:
    """The error is the import's own."""
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        import_at_once("no_such_module")
    assert gc.isenabled()
    assert "no_such_module" not in sys.modules


def test_a_collector_at_rest_is_left_at_rest() -> None:
    """Whoever stopped it starts it."""
    gc.disable()
    try:
        import_at_once("json")
        assert not gc.isenabled()
    finally:
        gc.enable()
