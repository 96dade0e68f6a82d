"""Small fixtures that all tests share: isolated homes, a tiny dataset, tiny models."""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import certifi
import pytest

# Hypothesis imports it inside a test, after it changed the recursion limit, and compiling a module
# there fails now and then in Python 3.11 (SystemError: recursion depth mismatch).
from hypothesis import settings
from hypothesis.strategies._internal import random as _random  # noqa: F401

from retune.machine import list_gpu_memories
from retune.model_records import BaseRef, ModelRef
from retune.records import ChatRef, CleanRef, DatabasesRef, DatasetRef, SideRef, Source, SplitRef
from retune.spine.stage import Workdir
from tests.making import load_inputs, make_workdir, settings_of, source_of
from tests.shared_sets import shared_set

if TYPE_CHECKING:
    from retune.weights.stages import QuantizeSettings
    from tests.s3_server import S3Server

_END = "-----END CERTIFICATE-----\n"
_HOME = Path(tempfile.mkdtemp(prefix="retune-tests-"))
# Libraries read these when they are imported, which is before any fixture runs.
os.environ |= {
    "HF_HOME": str(_HOME / "huggingface"),
    "PREFECT_HOME": str(_HOME / "prefect"),
    "XDG_CACHE_HOME": str(_HOME / "cache"),
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # Models of this size gain nothing from threads, and lose much where cores are shared.
    "OMP_NUM_THREADS": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}
# Expected values are those of a CPU, on any machine; `make test-gpu` runs what needs a GPU.
if not os.environ.get("RETUNE_TEST_GPU"):
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
# Each client reads all authorities before its first request, and tests ask nobody but this machine.
_AUTHORITY = _HOME / "authority.pem"
_AUTHORITY.write_text(certifi.contents().partition(_END)[0] + _END)
os.environ["SSL_CERT_FILE"] = str(_AUTHORITY)
# What one process of the tests has compiled, the hundreds that follow need not.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Nothing of this machine's own settings is for tests.
for _name in [name for name in os.environ if name.startswith(("MLFLOW_", "HF_TOKEN"))]:
    del os.environ[_name]
for _name in (
    *("PREFECT_API_URL", "PREFECT_PROFILE", "PYTHONIOENCODING", "COLUMNS", "LINES"),
    *("FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "GITHUB_ACTIONS"),
    *(f"{name}_PROXY" for name in ("HTTP", "HTTPS", "ALL", "NO")),
    *(f"{name}_proxy" for name in ("http", "https", "all", "no")),
):
    os.environ.pop(_name, None)

# An example has as long as it needs, since a machine may be busy; and is the same in every run.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")

REPOSITORY = Path(__file__).resolve().parents[1]
ROWS = 40


_LONGEST = (
    *("tests/flows/test_recipes.py", "tests/flows/test_year.py"),
    *("tests/retune/training/test_methods.py", "tests/retune/training/test_real_heads.py"),
    *("tests/flows/test_deployment.py", "tests/flows/test_real_data.py"),
    *("tests/flows/test_ray.py", "tests/flows/test_servers_away.py"),
    *("tests/flows/test_compare.py", "tests/retune/training/test_controls.py"),
)
"""Files that take minutes, from the longest on. A file is run by one worker: one that begins last
has the others wait for it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files and end with those of seconds: all workers end together."""
    files = {item: item.nodeid.partition("::")[0] for item in items}
    slow = {files[item] for item in items if set(item.keywords) & {"slow", "service"}}

    def place(item: pytest.Item) -> tuple[int, bool]:
        name = files[item]
        return _LONGEST.index(name) if name in _LONGEST else len(_LONGEST), name not in slow

    items.sort(key=place)
    if not list_gpu_memories():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(
                    pytest.mark.skip(reason="there is no GPU, or this is not make test-gpu")
                )


def pytest_collection_finish() -> None:
    """Look for cycles less often, and not among what was imported: a tenth of the suite's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def pytest_unconfigure() -> None:
    """Stop the servers and remove the homes that this process made."""
    for name in ("tests.serving", "tests.preloading"):
        if started := sys.modules.get(name):
            started.stop()
    shutil.rmtree(_HOME, ignore_errors=True)


@pytest.fixture(scope="module", autouse=True)
def given_back_addresses() -> Iterator[None]:
    """Take back what MLflow writes into the environment when its address is set.

    A registration sets it for its process, which here goes on with other tests. One that a whole
    package shares may have been made before this.
    """
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        os.environ.pop(name, None)
    before = {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}
    yield
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """A local S3 server, to which AWS's variables lead."""
    from tests.s3_server import s3_server, variables

    server = s3_server()
    for name, value in variables(server).items():
        monkeypatch.setenv(name, value)
    return server


@pytest.fixture
def work(tmp_path: Path) -> Workdir:
    """Return the empty folders of one computation."""
    return make_workdir(tmp_path / "work")


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., Source]:
    """Write rows (or raw lines) as a JSON Lines file."""

    def write(rows: list[Any], name: str = "train.jsonl") -> Source:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
        path.write_bytes(b"\n".join(lines) + b"\n")
        return source_of(path)

    return write


@pytest.fixture(scope="session")
def dataset_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, Source]:
    """The first rows of the shipped Portuguese dataset, and the databases that they ask about."""
    folder = tmp_path_factory.mktemp("dataset")
    shipped = REPOSITORY / "assets" / "text_to_sql_pt"
    rows = (shipped / "train.jsonl").read_text("utf-8").splitlines()[:ROWS]
    used = {json.loads(row)["db_id"] for row in rows}
    databases = (shipped / "databases.jsonl").read_text("utf-8").splitlines()
    databases = [line for line in databases if json.loads(line)["db_id"] in used]
    for name, lines in (("train", rows), ("databases", databases)):
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    return source_of(folder / "train.jsonl"), source_of(folder / "databases.jsonl")


@pytest.fixture(scope="session")
def databases(
    dataset_files: tuple[Source, Source], tmp_path_factory: pytest.TempPathFactory
) -> DatabasesRef:
    """The loaded databases."""
    from retune.data.databases import load_databases
    from retune.data.sources import locate_databases
    from retune.data.stages import DatabasesInputs

    return load_databases(
        DatabasesInputs(source=locate_databases(dataset_files[1].path)),
        make_workdir(tmp_path_factory.mktemp("databases") / "work"),
    )


@pytest.fixture(scope="session")
def dataset(
    dataset_files: tuple[Source, Source],
    databases: DatabasesRef,
    tmp_path_factory: pytest.TempPathFactory,
) -> DatasetRef:
    """The loaded rows."""
    from retune.data.rows import load_rows
    from retune.data.sources import locate_rows
    from retune.recipe.sections import DataConfig

    path = dataset_files[0].path
    config = DataConfig(train=path, databases=dataset_files[1].path)
    located = locate_rows(config.train[0], config, lambda path: path, "data.train.0")
    return load_rows(
        load_inputs(located, databases),
        make_workdir(tmp_path_factory.mktemp("load") / "work"),
    )


@pytest.fixture(scope="session")
def clean(dataset: DatasetRef, tmp_path_factory: pytest.TempPathFactory) -> CleanRef:
    """The rows that are kept: all."""
    from retune.data.quality.cleaning import clean_rows
    from retune.data.stages import CleanInputs, CleanSettings

    return clean_rows(
        CleanInputs(rows=(dataset,), weights=(None,), held_out=(False,), names=(("train.jsonl",),)),
        settings_of(CleanSettings, quality={}),
        make_workdir(tmp_path_factory.mktemp("clean") / "work"),
    )


@pytest.fixture(scope="session")
def split(clean: CleanRef, tmp_path_factory: pytest.TempPathFactory) -> SplitRef:
    """The rows on three sides; by row, since so few rows have few databases."""
    from retune.data.parts.splitting import split_rows
    from retune.data.stages import SplitInputs, SplitSettings

    return split_rows(
        SplitInputs(rows=clean),
        settings_of(
            SplitSettings,
            split={"validation_fraction": 0.2, "test_fraction": 0.2, "grouped": False},
        ),
        make_workdir(tmp_path_factory.mktemp("split") / "work"),
    )


@pytest.fixture(scope="session")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a maker of tiny random snapshots by family; each is made once."""
    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        from tests.tiny_models import write_snapshot

        if family not in made:
            made[family] = write_snapshot(tmp_path_factory.mktemp(family) / family, family)
        return made[family]

    return make


@pytest.fixture(scope="session")
def base(snapshot: Callable[[str], Path]) -> BaseRef:
    """A tiny random Llama as the base of a recipe."""
    from retune.modeling.snapshots import locate_base

    return locate_base(str(snapshot("llama")), None)


@pytest.fixture(scope="session")
def format_for(
    dataset: DatasetRef,
    databases: DatabasesRef,
    split: SplitRef,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., ChatRef]:
    """Format the rows for a base."""
    from retune.data.chats.encoding import format_chat
    from retune.data.chats.preparing import prepare_sides
    from retune.data.stages import ChatInputs, ChatSettings, EncodeInputs, EncodeSettings

    def format_rows(base: BaseRef, **prompt: Any) -> ChatRef:
        settings = {"user": "{schema}\n{question}", "max_length": 1024, **prompt}
        encoded = format_chat(
            EncodeInputs(rows=dataset, databases=databases, base=base, template=None),
            settings_of(EncodeSettings, prompt=settings),
            make_workdir(tmp_path_factory.mktemp("encode") / "work"),
        )
        return prepare_sides(
            ChatInputs(
                split=split, rows=(dataset,), chats=(encoded,), databases=databases, base=base
            ),
            settings_of(ChatSettings, prompt=settings),
            make_workdir(tmp_path_factory.mktemp("chat") / "work"),
        )

    return format_rows


@pytest.fixture(scope="session")
def chats(base: BaseRef, format_for: Callable[..., ChatRef]) -> ChatRef:
    """The rows as chats of the tiny Llama."""
    return format_for(base)


@pytest.fixture(scope="session")
def held_out(chats: ChatRef) -> SideRef:
    """The held-out chats."""
    return chats.side("test")


@pytest.fixture(scope="session")
def reference_text(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Two short texts that quantized models are compared on."""
    path = tmp_path_factory.mktemp("reference") / "texts.jsonl"
    texts = ["Quantas cidades há na tabela?", "SELECT nome FROM cidades WHERE estado = 'RN'"]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    return source_of(path)


@pytest.fixture(scope="session")
def quantize(
    base: BaseRef, reference_text: Source, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], ModelRef]:
    """Return a maker of the model that training starts from, by kind; each is made once."""
    from retune.weights.quantize import quantize_model
    from retune.weights.stages import QuantizeInputs, QuantizeSettings

    made: dict[str, ModelRef] = {}

    def make(kind: str) -> ModelRef:
        if kind not in made:
            section: QuantizeSettings = settings_of(
                QuantizeSettings, model={"id": "tiny"}, quantization={"kind": kind}
            )
            folder = make_workdir(tmp_path_factory.mktemp("quantize") / "work")
            inputs = QuantizeInputs(base=base, reference_text=reference_text)
            made[kind] = quantize_model(inputs, section, folder)
        return made[kind]

    return make


@pytest.fixture
def copied(tmp_path: Path) -> Iterator[Callable[[Path], Path]]:
    """Copy a shared folder, for tests that spoil it."""

    def copy(folder: Path) -> Path:
        target = tmp_path / f"copy-of-{folder.name}"
        shutil.copytree(folder, target)
        return target

    return copy


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of larger sets beside the repository; without it such a test is skipped."""
    return shared_set()


@pytest.fixture(scope="session", params=["sample", "shared"])
def reference_data(request: pytest.FixtureRequest) -> Path:
    """The sample that ships, and then the larger sets of the same form."""
    if request.param == "sample":
        return REPOSITORY / "tests" / "samples"
    found: Path = request.getfixturevalue("shared_data")
    return found
