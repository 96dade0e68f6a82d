"""What retune reads from others, and how: each kind reads one file as the product does."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from retune.collecting.extracting import extract_documents
from retune.collecting.failures import EXTRACTOR
from retune.collecting.fetching.fetcher import FetchResult
from retune.collecting.fetching.sitemaps import parse_sitemap
from retune.collecting.records import CollectSettings
from retune.collecting.rows import make_rows
from retune.collecting.sourcing import list_pages
from retune.data.chats.templates import find_user_text, list_switches, locate_template
from retune.data.databases import load_databases
from retune.data.preferences import read_preferences
from retune.data.rows import load_rows
from retune.data.sources import locate_databases, locate_rows
from retune.data.stages import DatabasesInputs, EncodeSettings
from retune.errors import RetuneError
from retune.inputs import locate_inputs
from retune.modeling.methods.adapter_folders import is_adapter, named_base, named_method
from retune.modeling.snapshots import check_snapshot
from retune.recipe.loading import load_recipe
from retune.recipe.sections import DataConfig, PromptConfig
from retune.records import DatasetRef
from retune.registry.ledger.lines import join_lines, make_line, write_line
from retune.registry.ledger.places import LedgerFile
from retune.registry.records import LedgerEntry
from retune.retraining.request_log import iterate_requests, locate_log
from retune.scoring.classification.extraction import read_label
from retune.scoring.counterfactual.sets import expand_pairs, load_counterfactuals
from retune.scoring.probes.cases import load_probes
from retune.scoring.probes.judging import judge_probe
from retune.scoring.robustness.perturbations import load_paraphrases
from retune.scoring.sql.score import extract_sql
from retune.spine.store import MANIFEST, Manifest, Store
from retune.sql.exact import ExactJudge
from retune.sql.execution import ExecutionJudge
from retune.sql.records import SqlLimits, SqlRow
from retune.sql.sandbox import SqlSandbox
from retune.text_files import read_text_file
from tests.fuzz.mutating import Input
from tests.making import load_inputs, make_workdir, settings_of

REPOSITORY = Path(__file__).resolve().parents[2]
Read = Callable[[Path], object]


@dataclass(frozen=True)
class Kind:
    """One kind of input.

    Attributes:
        name: As the corpus' folder is called.
        seeds: Makes good inputs, to be changed.
        opened: Gives the function that reads a file; it may raise a `RetuneError` and nothing else.
        tree: Reads an input into lists and mappings, where a part of those is changed.
    """

    name: str
    seeds: Callable[[], list[Input]]
    opened: Callable[[Path], Any]
    tree: Callable[[Input], Any] | None = None


def _of(*patterns: str) -> list[Input]:
    paths = [path for pattern in patterns for path in sorted(REPOSITORY.glob(pattern))]
    return [Input(path.name, path.read_bytes()) for path in paths]


def _yaml(seed: Input) -> Any:
    # Without types of its own: a date could not be written as JSON.
    return yaml.load(seed.content, Loader=yaml.BaseLoader)


def _few(tree: Any) -> Any:
    """Cut lists, so that there are less than a hundred places to change."""
    if isinstance(tree, dict):
        return {key: _few(value) for key, value in list(tree.items())[:6]}
    return [_few(each) for each in tree[:2]] if isinstance(tree, list) else tree


def _pieces(sign: str) -> Callable[[Input], Any]:
    """Cut a text before each sign: parts of it are then changed as those of a list."""
    return lambda seed: re.split(f"(?={sign})", seed.content.decode())


def _page_tree(seed: Input) -> Any:
    return _pieces("<" if b"<html" in seed.content else "\n\n")(seed)


def _json(seed: Input) -> Any:
    content = gzip.decompress(seed.content) if seed.name.endswith(".gz") else seed.content
    if ".jsonl" in seed.name or ".ndjson" in seed.name:
        return [json.loads(line) for line in content.splitlines() if line.strip()]
    return json.loads(content) if ".json" in seed.name else None


# -------------------- recipes


@contextmanager
def _recipes(folder: Path) -> Iterator[Read]:
    """A recipe is loaded, and what it names is looked for in a project like this one."""
    (folder / "pyproject.toml").write_text("")
    for name in ("assets", "conf"):
        (folder / name).symlink_to(REPOSITORY / name)
    yield lambda path: locate_inputs(load_recipe(path), with_weights=False)


@contextmanager
def _overrides(folder: Path) -> Iterator[Read]:
    """Each line of the file is one `--set`."""
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        "name: small\ndata: {train: a.jsonl}\nmodel: {id: a/b}\nregistry: {model_name: small}\n"
    )
    yield lambda path: load_recipe(recipe, path.read_bytes().decode("utf-8", "replace").split("\n"))


def _override_seeds() -> list[Input]:
    lines = [
        *("training.epochs=2", "method.kind=qlora", "training={epochs: 1, batch_size: 4}"),
        *("data.train=[{path: a.jsonl, weight: 1}]", "split.test_fraction=0.1", "variant=a"),
        *("evaluation_strategy=steps", "gate.metric=null", "method.target_modules=[q_proj]"),
    ]
    return [Input("set.txt", line.encode()) for line in [*lines, "\n".join(lines[:3])]]


# -------------------- rows

_ROWS = (
    *({"question": "Quantos?", "answer": "SELECT 1", "db_id": "a"} for _ in range(2)),
    {"question": "Há?", "context": "CREATE TABLE t (a)", "answer": "SELECT a FROM t"},
    {"instruction": "Some", "input": "1 e 2", "output": "3"},
    {"text": "bom livro", "label": "positivo"},
    {"text": "ruim", "label": 0},
    {"prompt": "a", "chosen": "b", "rejected": "c"},
    {
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "a"},
        ]
    },
    {
        "conversations": [
            {"from": "human", "value": "q"},
            {"from": "gpt", "value": "<think>t</think>a"},
        ],
        "tools": "[]",
    },
    {
        "messages": [
            {"role": "user", "content": "q"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": '{"x": 1}'}}],
            },
            {"role": "tool", "content": "1", "tool_call_id": "1"},
            {"role": "assistant", "content": "a"},
        ]
    },
    {"text": "<|start|>user<|message|>q<|end|><|start|>assistant<|channel|>final<|message|>a"},
)


def _row_seeds() -> list[Input]:
    """Rows of every layout, in every format of files."""
    seeds = []
    for rows in ([row] * 3 for row in _ROWS):
        lines = "\n".join(map(json.dumps, rows)).encode()
        seeds += [Input("rows.jsonl", lines), Input("rows.json", json.dumps(rows).encode())]
        seeds.append(Input("rows.jsonl.gz", gzip.compress(lines, 1, mtime=0)))
        if all(isinstance(value, str) for value in rows[0].values()):
            for name, sign in (("rows.csv", ","), ("rows.tsv", "\t")):
                table = [sign.join(rows[0]), *(sign.join(row.values()) for row in rows)]
                seeds.append(Input(name, "\n".join(table).encode()))
        kept = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), kept, compression="none")
        seeds.append(Input("rows.parquet", kept.getvalue()))
    for folder in ("text_to_sql_pt", "reviews_pt", "instructions_pt", "documentation_en"):
        path = sorted((REPOSITORY / "assets" / folder).glob("[rt]*.jsonl"))[0]
        lines = path.read_bytes().splitlines()[:4]
        seeds.append(Input("rows.ndjson", b"\n".join(lines)))
    return seeds


@contextmanager
def _rows(folder: Path) -> Iterator[Read]:
    """Rows are found, their layout is told, and they are loaded; and read as pairs of answers."""

    def read(path: Path) -> DatasetRef:
        data = DataConfig.model_validate({"train": str(path), "max_row_bytes": 20_000})
        located = locate_rows(data.train[0], data, lambda each: each, "data.train.0")
        work = folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        return load_rows(load_inputs(located), make_workdir(work))

    yield read


@contextmanager
def _pairs(folder: Path) -> Iterator[Read]:
    yield read_preferences


def _pair_seeds() -> list[Input]:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    rows: list[Any] = [
        {"question": "q", "chosen": "a", "rejected": "b"},
        {"prompt": turns[:1], "chosen": turns[1:], "rejected": turns[1:]},
        {"chosen": turns, "rejected": turns},
    ]
    return [Input("pairs.jsonl", "\n".join([json.dumps(row)] * 2).encode()) for row in rows]


@contextmanager
def _databases(folder: Path) -> Iterator[Read]:
    def read(path: Path) -> object:
        work = folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        return load_databases(DatabasesInputs(source=locate_databases(path)), make_workdir(work))

    yield read


def _database_seeds() -> list[Input]:
    lines = (REPOSITORY / "assets/text_to_sql_pt/databases.jsonl").read_bytes().splitlines()[:2]
    mapping = {"a": "CREATE TABLE t (a INT)", "b": ["CREATE TABLE u (b)", "CREATE TABLE v (c)"]}
    return [
        Input("databases.jsonl", b"\n".join(lines)),
        Input("databases.json", json.dumps(mapping).encode()),
    ]


# -------------------- probes and requests


def _probe_seeds() -> list[Input]:
    return [
        Input(seed.name, yaml.safe_dump(_few(_yaml(seed)), allow_unicode=True).encode())
        for seed in _of("conf/probes/*.yaml")
    ]


@contextmanager
def _probes(folder: Path) -> Iterator[Read]:
    """A file of probes is read for its cases, its counterfactuals and its paraphrases."""

    def read(path: Path) -> None:
        # Each reads its own section: what one refuses, another may take.
        refused: list[RetuneError] = []
        for load in (_judge_cases, _expand, load_paraphrases):
            try:
                load(path)
            except RetuneError as error:
                refused.append(error)
        if refused:
            raise refused[0]

    yield read


def _judge_cases(path: Path) -> None:
    for case in load_probes(path):
        judge_probe(case, f"x {case.input} {case.expected}")


def _expand(path: Path) -> None:
    expand_pairs(*load_counterfactuals(path))


@contextmanager
def _request_logs(folder: Path) -> Iterator[Read]:
    def read(path: Path) -> None:
        log = locate_log(path, path, 50)
        if log is not None:
            list(iterate_requests(log, "prompt", "cp1252", lambda bad: None))

    yield read


def _request_seeds() -> list[Input]:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    lines = [{"prompt": "Quantos?"}, {"messages": turns}, {"prompt": "a", "label": "b"}]
    return [Input("log.jsonl", "\n".join(map(json.dumps, lines)).encode())]


# -------------------- predictions

_LABELS = (
    ("positivo", "negativo"),
    ("tóxico", "não tóxico"),
    ("0", "1"),
    (".*", "(", "a|b", "\\d"),
)
_GOLDS = (
    "SELECT a, count(*) FROM t WHERE b LIKE 'x%' GROUP BY a HAVING count(*) > 0 ORDER BY 2 LIMIT 1",
    "SELECT t.b FROM t JOIN u ON t.a = u.a WHERE t.c IN (SELECT c FROM t) OR NOT t.b = 'y'",
    "WITH w AS (SELECT a, b FROM t) SELECT CASE WHEN b = 'x' THEN a ELSE 0 END FROM w",
    "SELECT * FROM t ORDER BY 1",
)
_SCHEMA = "CREATE TABLE t (a INT, b TEXT, c); CREATE TABLE u (a INT, d REAL);"
_CONTEXT = f"{_SCHEMA} INSERT INTO t VALUES (1, 'x', 2), (2, 'y', 1); INSERT INTO u VALUES (1, 1);"


@contextmanager
def _predictions(folder: Path) -> Iterator[Read]:
    """An answer is judged as a label and as a query."""
    limits = SqlLimits(deadline_s=0.5, grace_s=0.3)
    with SqlSandbox(limits) as sandbox:
        judge = ExecutionJudge(sandbox, limits, "sqlite")
        exact = ExactJudge(sandbox, limits, "sqlite")

        def read(path: Path) -> None:
            answer = path.read_bytes().decode(
                "utf-8", "surrogatepass" if _sane(path) else "replace"
            )
            for labels in _LABELS:
                found = read_label(answer, labels)
                assert (found.label in labels) is (found.reason is None)
            query = extract_sql(answer)
            gold = _GOLDS[len(answer) % len(_GOLDS)]
            row = SqlRow(row_id="0", gold=gold, schema=_SCHEMA, context=_CONTEXT)
            verdict = judge.judge(row, query)
            assert verdict["execution_match"] is not None, verdict
            exact.judge(row, query, verdict)

        yield read


def _sane(path: Path) -> bool:
    try:
        path.read_bytes().decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def _answer_seeds() -> list[Input]:
    prose = ("```sql\n{}\n```", "SQL: {}", "<think>hm</think>{};", "{}; {}", '{{"sql": "{}"}}')
    labels = ("positivo", "É **negativo**.", "não é tóxico", '"1"', "não sei", "Label: 0\n1")
    texts = [each.replace("{}", gold) for gold in _GOLDS for each in (*prose, "{}")]
    return [Input("answer.txt", text.encode()) for text in [*texts, *labels]]


# -------------------- manifests

_KEY = "0123456789abcdef" * 2


@contextmanager
def _manifests(folder: Path) -> Iterator[Read]:
    """A manifest lies at the place of an artifact, which is loaded."""
    store = Store(folder / "store")
    artifact = store.folder("load_rows", _KEY)
    artifact.mkdir(parents=True)
    (artifact / "rows.parquet").write_bytes(b"rows")

    def read(path: Path) -> None:
        shutil.copyfile(path, artifact / MANIFEST)
        store.load("load_rows", _KEY, DatasetRef)

    yield read


def _manifest_seeds() -> list[Input]:
    """With a checksum, any change is refused for that; the other seed shows what lies behind it."""
    record = {"digest": "0" * 64, "format": "text", "rows": 4, "bad_rows": 0, "databases": 0}
    manifest = Manifest(
        stage="load_rows",
        key=_KEY,
        key_parts={"version": "1", "library.pyarrow": "25", "settings": {"a": [1.5, None]}},
        record=record | {"labels": ["a"]},
        files={"rows.parquet": hashlib.sha256(b"rows").hexdigest()},
        provenance={"commit": None, "seconds": 1.5, "sealed_at": "2026-01-01T00:00:00+00:00"},
    )
    whole = manifest.model_copy(update={"checksum": manifest.computed_checksum()})
    return [Input(MANIFEST, each.model_dump_json(indent=2).encode()) for each in (manifest, whole)]


@contextmanager
def _ledgers(folder: Path) -> Iterator[Read]:
    yield lambda path: join_lines({"file": LedgerFile(path).read()[0], "tags": {}})


def _ledger_seeds() -> list[Input]:
    lines: list[LedgerEntry] = []
    for _ in range(2):
        entry = LedgerEntry(
            number=0,
            at="2026-01-01T00:00:00Z",
            kind="promoted",
            model_name="m",
            actor="a",
            reason="r",
        )
        lines.append(make_line(entry, lines[-1] if lines else None))
    return [Input("small.jsonl", "".join(f"{write_line(each)}\n" for each in lines).encode())]


@contextmanager
def _snapshots(folder: Path) -> Iterator[Read]:
    """One file of a model's folder is not as it should be."""
    model = folder / "model"
    shutil.copytree(REPOSITORY / "assets/base_tiny", model)
    kept = {path.name: path.read_bytes() for path in model.iterdir()}

    def read(path: Path) -> None:
        (model / path.name).write_bytes(path.read_bytes())
        try:
            if is_adapter(model):
                named_base(model), named_method(model)
            check_snapshot(model)
        finally:
            if path.name in kept:
                (model / path.name).write_bytes(kept[path.name])
            else:
                (model / path.name).unlink()

    yield read


def _snapshot_seeds() -> list[Input]:
    index = {"metadata": {"total_size": 1}, "weight_map": {"a": "model.safetensors"}}
    adapter = {"peft_type": "LORA", "base_model_name_or_path": "a/b", "r": 8, "task_type": "X"}
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    weights = len(header).to_bytes(8, "little") + header + b"\0\0\0\0"
    return [
        *_of("assets/base_tiny/config.json", "assets/base_tiny/generation_config.json"),
        Input("model.safetensors.index.json", json.dumps(index).encode()),
        Input("adapter_config.json", json.dumps(adapter).encode()),
        Input("more.safetensors", weights),
    ]


# -------------------- chat templates


@contextmanager
def _templates(folder: Path) -> Iterator[Read]:
    """A chat template is found, and three rows are written by it."""
    from retune.data.chats.databases import SchemaLookup
    from retune.data.chats.encoding import RowEncoder
    from tests.chat_templates import dress

    tokenizer, ends = dress("chatml")
    ids = [tokenizer.convert_tokens_to_ids(end) for end in ends]
    settings = settings_of(EncodeSettings, prompt={"system": "Be kind."})

    def read(path: Path) -> None:
        source = locate_template(
            PromptConfig(template=str(path)), lambda each: Path(each), lambda each: each
        )
        assert source is not None
        text = read_text_file(source.path)
        list_switches(text)
        find_user_text(text)
        tokenizer.chat_template = text
        encoder = RowEncoder(tokenizer, ids, settings, schemas=SchemaLookup([]))
        written = list(encoder.encode_all(_chats()))
        assert len(written) == len(_chats())

    yield read


@cache
def _chats() -> tuple[dict[str, Any], ...]:
    row = {
        **dict.fromkeys(("row_id", "group", "thinking", "label", "db_id"), None),
        **{"history": [], "question": "Quantos?", "context": "", "answer": "SELECT 1"},
        **{"file": 0, "line": 1},
    }
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    return (row, row | {"history": turns}, row | {"context": "{{ 7 }}", "thinking": "hm"})


def _template_seeds() -> list[Input]:
    from tests.chat_templates import all_templates

    # A long one takes a tenth of a second to compile, and has no more kinds of tags.
    texts = [text for text in all_templates().values() if len(text) < 4_000]
    return [Input("t.jinja", text.encode()) for text in texts]


# -------------------- pages


@contextmanager
def _pages(folder: Path) -> Iterator[Read]:
    """A page is read and becomes rows of each kind; a sitemap or a list gives addresses."""

    def read(path: Path) -> None:
        if path.suffix == ".xml":
            parse_sitemap(path.read_bytes(), path.name)
            return
        if path.suffix == ".txt":
            list_pages(str(path), CollectSettings())
            return
        for kind in ("pairs", "sentences", "documents"):
            settings = CollectSettings(rows=kind)
            page = FetchResult(url=str(path))
            made = make_rows(
                extract_documents([page], settings, lambda done, total: None), [], settings
            )
            assert [each.detail for each in made.outcomes if each.reason == EXTRACTOR] == []
            for row in made.rows:
                json.dumps(row, ensure_ascii=False).encode("utf-8")

    yield read


def _page_seeds() -> list[Input]:
    from tests.retune.collecting import site_pages
    from tests.retune.collecting.test_generated_pages import _MARKDOWN

    sitemap = (
        '<?xml version="1.0"?><urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">'
        "<url><loc>https://a.b/c</loc></url></urlset>"
    )
    bomb = (
        '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
        '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d SYSTEM "file:///etc/passwd">]>'
    )
    pages = [*site_pages.PAGES.values(), site_pages.SPHINX_API]
    return [
        *(Input("page.html", page.encode()) for page in pages),
        *(Input("page.md", _MARKDOWN.encode()) for _ in range(4)),
        Input("page.xhtml", f'<?xml version="1.0"?>{bomb}{pages[0]}'.encode()),
        Input("map.xml", sitemap.encode()),
        Input("map.xml", sitemap.replace("<urlset", f"{bomb}<urlset").encode()),
        Input("list.txt", b"https://a.b/c\n# comment\nhttps://a.b/d\n"),
    ]


KINDS = {
    kind.name: kind
    for kind in (
        Kind("recipes", lambda: _of("conf/recipes/*.yaml"), _recipes, _yaml),
        Kind("overrides", _override_seeds, _overrides),
        Kind("rows", _row_seeds, _rows, _json),
        Kind("pairs", _pair_seeds, _pairs, _json),
        Kind("databases", _database_seeds, _databases, _json),
        Kind("probes", _probe_seeds, _probes, _yaml),
        Kind("request_logs", _request_seeds, _request_logs, _json),
        Kind("predictions", _answer_seeds, _predictions, _pieces("[ (,]")),
        Kind("manifests", _manifest_seeds, _manifests, _json),
        Kind("ledgers", _ledger_seeds, _ledgers, _json),
        Kind("snapshots", _snapshot_seeds, _snapshots, _json),
        Kind("templates", _template_seeds, _templates, _pieces("[{][{%#]")),
        Kind("pages", _page_seeds, _pages, _page_tree),
    )
}
