"""A registry with a merged model and a bundle, made once for all tests of exports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from retune.registry.versions.descriptions import VersionDescription, describe_version
from tests.retune.registry.forms.test_bundles import BUNDLED, MERGED, BundleBench

Describe = Callable[[str], VersionDescription]


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package")
def bench(tmp_path_factory: pytest.TempPathFactory) -> BundleBench:
    bench = BundleBench(tmp_path_factory.mktemp("registry"))
    bench.register("merged", MERGED)
    bench.register("bundled", BUNDLED)
    return bench


@pytest.fixture
def describe(bench: BundleBench) -> Describe:
    """Return what finds a model's champion with what is said of it."""
    return lambda name: describe_version(bench.uri, name, "champion")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "export"
