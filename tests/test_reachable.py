"""Whatever stands in the package is reached by a command, a flow or a stage, not by tests alone.

Nothing is run: the names that each piece of code reads lead to the definitions that it reaches,
from what a module does when it is imported (its decorators, tables and commands among it) onwards.
A name of a module is looked for where it was imported from, a method by its name alone: of two
methods with one name, either keeps the other. What is found is therefore dead for sure, and
something dead may be missed.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

import pytest

from tests.tiny_models import REPOSITORY

ROOMS = ("src", "tasks", "flows")
KEYWORD_ONLY = 1000
NAMED = re.compile(r"([\w.]+):(\w+)")
ATTRIBUTE = re.compile(r"\.(\w+)")

ENTRY_POINTS = {
    "retune.cli:main": "the command, as pyproject.toml names it",
    "retune.sql.worker:main": "a process of its own",
}
CALLED_BY_LIBRARIES = {
    "retune.weights.served_bundle:_load_pyfunc": "MLflow, from the MLmodel file",
}
"""Definitions that nothing of ours reaches, with who calls them by name."""

PASSED_BY_OTHERS = {
    "retune.collecting.fetching.fetcher:Fetcher(chance)": "tests, which cannot wait",
    "retune.collecting.fetching.fetcher:Fetcher(sleep)": "tests, which cannot wait",
    "retune.collecting.fetching.providers:http_client(transport)": "tests, which have no network",
    "retune.hub_variables:refuse_wrong_hub_variables(environment)": "tests, which keep their own",
    "retune.weights.served_bundle:predict(params)": "MLflow",
    "retune.scoring.judge.endpoint:EndpointJudge(sleep)": "tests, which cannot wait",
    "retune.scoring.perplexity:text_perplexity(batch_size)": "the reference",
    "retune.scoring.sql.score:score_queries(workers)": "tests and benchmarks, on several cores",
    "retune.inference.token_losses:score_pairs(padding_side)": "tests: trainers pad on the right",
    "retune.tracking.addresses:choose_tracking(environment)": "tests, which keep their own",
    "retune.training.callbacks:on_evaluate(metrics)": "transformers",
    "retune.training.callbacks:on_save(model)": "transformers",
    "retune.training.early_stopping:on_evaluate(metrics)": "transformers",
}
"""Parameters with a default that no call of ours passes, with who passes them."""


class Piece(NamedTuple):
    """A function, method, class or constant, or what a module does by itself."""

    module: str
    name: str
    code: tuple[ast.AST, ...]
    called_by_others: bool = False
    """A method that a base class from outside, or Python itself, calls by its name."""

    @property
    def full(self) -> str:
        """Module and name, as in the table of stages."""
        return f"{self.module}:{self.name}"


@cache
def modules() -> dict[str, ast.Module]:
    """Return the parsed modules by their dotted names."""
    found: dict[str, ast.Module] = {}
    for room in ROOMS:
        root = REPOSITORY / room if room == "src" else REPOSITORY
        for path in sorted((REPOSITORY / room).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = ast.parse(path.read_text("utf-8"))
    return found


def pieces(module: str, tree: ast.Module) -> Iterator[Piece]:
    """Yield what a module defines, and last what it does when it is imported."""
    own: list[ast.AST] = []
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from _class_pieces(module, node)
            own += node.decorator_list
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Piece(module, node.name, (node,), bool(node.decorator_list))
        elif (name := _constant(node)) == "__all__":
            continue
        elif name is not None:
            yield Piece(module, name, (node,))
        elif not isinstance(node, ast.Import | ast.ImportFrom):
            own.append(node)
    yield Piece(module, "", tuple(own), True)


def _constant(node: ast.AST) -> str | None:
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    simple = isinstance(node, ast.Assign | ast.AnnAssign) and len(targets) == 1
    return targets[0].id if simple and isinstance(targets[0], ast.Name) else None


def _class_pieces(module: str, node: ast.ClassDef) -> Iterator[Piece]:
    rest: list[ast.AST] = [*node.bases, *node.keywords]
    for each in node.body:
        if not isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            rest.append(each)
            continue
        decorators = {ast.unparse(one).partition("(")[0] for one in each.decorator_list}
        hook = each.name.startswith("__") or bool(
            decorators - {"property", "cached_property", "classmethod", "staticmethod"}
        )
        yield Piece(module, f"{node.name}.{each.name}", (each,), hook)
    yield Piece(module, node.name, tuple(rest))


class Package:
    """The definitions of the package, and what reaches what."""

    def __init__(self, trees: dict[str, ast.Module]) -> None:
        self.pieces = {
            piece.full: piece for name, tree in trees.items() for piece in pieces(name, tree)
        }
        self._imports = {name: dict(_imports(tree)) for name, tree in trees.items()}
        self._by_attribute: dict[str, list[str]] = defaultdict(list)
        for full, piece in self.pieces.items():
            self._by_attribute[piece.name.rpartition(".")[2]].append(full)
        self._methods: dict[str, list[str]] = defaultdict(list)
        for full, piece in self.pieces.items():
            if "." in piece.name:
                self._methods[full.rpartition(".")[0]].append(full)

    def unreached(self, also: Iterable[str] = ()) -> set[str]:
        """Return what is not reached from what modules do by themselves.

        Args:
            also: Further definitions that somebody reaches.
        """
        todo = [full for full in self.pieces if full.endswith(":")]
        todo += [
            full
            for full, piece in self.pieces.items()
            if piece.called_by_others and "." not in piece.name
        ]
        todo += [*ENTRY_POINTS, *also]
        todo += [full for name in _templates() for full in self._by_attribute[name]]
        seen: set[str] = set()
        while todo:
            full = todo.pop()
            if full in seen or full not in self.pieces:
                continue
            seen.add(full)
            todo += self._leads_to(self.pieces[full])
        return set(self.pieces) - seen

    def _leads_to(self, piece: Piece) -> Iterator[str]:
        if piece.full in self._methods:
            foreign = self._is_foreign(piece)
            for method in self._methods[piece.full]:
                if foreign or self.pieces[method].called_by_others:
                    yield method
        elsewhere: dict[str, str] = {}
        for code in piece.code:
            elsewhere |= dict(_imports(code))
        for code in piece.code:
            for kind, name in _read(code):
                if kind == "name":
                    yield self._find(piece.module, name, elsewhere)
                elif kind == "string":
                    yield self._through(name)
                else:
                    yield from self._by_attribute[name]

    def _find(self, module: str, name: str, elsewhere: dict[str, str]) -> str:
        """Return the definition of a name as a module, or one piece of it, means it."""
        return self._through(elsewhere.get(name) or f"{module}:{name}")

    def _through(self, full: str) -> str:
        while full not in self.pieces:
            module, _, name = full.partition(":")
            if name not in self._imports.get(module, {}):
                return full
            full = self._imports[module][name]
        return full

    def _is_foreign(self, piece: Piece) -> bool:
        """Say whether a class has a base from outside whose hooks it may define."""
        for base in (code for code in piece.code if isinstance(code, ast.expr)):
            name = ast.unparse(base).partition("[")[0]
            if name in {"Protocol", "Record", "Section", "NamedTuple", "BaseModel", "Exception"}:
                continue
            found = self.pieces.get(self._find(piece.module, name, {}))
            if found is None or (found.full != piece.full and self._is_foreign(found)):
                return True
        return False


def _imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for each in node.names:
                yield each.asname or each.name, f"{node.module}:{each.name}"


def _read(code: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(code):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield "name", node.id
        elif isinstance(node, ast.Attribute):
            yield "attribute", node.attr
        elif isinstance(node, ast.Constant) and NAMED.fullmatch(str(node.value)):
            yield "string", node.value


def _templates() -> set[str]:
    """Return the names that follow a dot in the templates of pages."""
    files = (path for room in ROOMS for path in (REPOSITORY / room).rglob("*.j2"))
    return {name for path in files for name in ATTRIBUTE.findall(path.read_text("utf-8"))}


def unpassed(trees: dict[str, ast.Module]) -> Iterator[str]:
    """Yield parameters with a default that no call passes, as `module:function(parameter)`.

    A function that is also handed on as a value may be called by anybody, and is left out, as are
    those that a decorator, or a method of a class, gives other callers.
    """
    calls: dict[str, list[ast.Call]] = defaultdict(list)
    values: set[str] = set()
    for tree in trees.values():
        called = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called.add(id(node.func))
                calls[_last(node.func)].append(node)
        for node in ast.walk(tree):
            if isinstance(node, ast.Name | ast.Attribute) and id(node) not in called:
                values.add(_last(node))
            elif isinstance(node, ast.Constant) and NAMED.fullmatch(str(node.value)):
                values.add(node.value.rpartition(":")[2])
    for module, tree in trees.items():
        for name, node in _signatures(tree):
            if name in values or node.decorator_list:
                continue
            for place, parameter in _defaulted(node):
                if not any(_passes(call, place, parameter) for call in calls[name]):
                    yield f"{module}:{name}({parameter})"


def _signatures(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for each in node.body:
                if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
                    if each.name == "__init__":
                        yield node.name, each
                    elif not each.name.startswith("__"):
                        yield each.name, each


def _defaulted(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[tuple[int, str]]:
    names = [each.arg for each in (*node.args.posonlyargs, *node.args.args)]
    own = names[1:] if names[:1] in (["self"], ["cls"]) else names
    first = len(own) - len(node.args.defaults)
    yield from ((place, name) for place, name in enumerate(own) if place >= first)
    for each, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        if default is not None:
            yield KEYWORD_ONLY, each.arg


def _passes(call: ast.Call, place: int, name: str) -> bool:
    starred = any(isinstance(each, ast.Starred) for each in call.args)
    by_place = place < KEYWORD_ONLY and (starred or len(call.args) > place)
    return by_place or any(each.arg in (name, None) for each in call.keywords)


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def test_nothing_is_there_for_tests_alone() -> None:
    """What no command, flow or stage reaches is removed, with the tests of it."""
    package = Package(modules())
    assert package.unreached(CALLED_BY_LIBRARIES) == set()
    # And nobody is excused who need not be.
    assert set(CALLED_BY_LIBRARIES) <= package.unreached()


def test_every_parameter_with_a_default_is_passed_by_somebody() -> None:
    """What always has its default is no parameter."""
    assert set(unpassed(modules())) == set(PASSED_BY_OTHERS)


def parse(**texts: str) -> dict[str, ast.Module]:
    return {name: ast.parse(text) for name, text in texts.items()}


@pytest.mark.parametrize(
    ("text", "dead"),
    [
        ("def f(): ...", {"a:f"}),
        ("def f(): f()", {"a:f"}),  # by itself alone
        ("def f(): g()\ndef g(): ...", {"a:f", "a:g"}),  # by something dead
        ("def f(): ...\nf()", set()),
        ("@command\ndef f(): ...", set()),
        ("TABLE = f\ndef f(): ...", {"a:TABLE", "a:f"}),
        ("def f(): ...\nregister('a:f')", set()),
        ("class C:\n    def m(self): ...\nC()", {"a:C.m"}),
        ("class C:\n    def m(self): ...\nC().m()", set()),
        ("class C(Trainer):\n    def hook(self): ...\nC()", set()),  # whoever calls hooks
        ("class C:\n    def __len__(self): ...\nC()", set()),
        ("__all__ = ['f']\ndef f(): ...", {"a:f"}),
    ],
)
def test_what_counts_as_reached(text: str, dead: set[str]) -> None:
    assert Package(parse(a=text)).unreached() == dead


def test_a_name_is_followed_through_what_re_exports_it() -> None:
    """And a twin elsewhere does not keep it."""
    texts = {"room": "from own import f", "user": "from room import f\nf()", "own": "def f(): ..."}
    assert Package(parse(**texts, twin="def f(): ...")).unreached() == {"twin:f"}


@pytest.mark.parametrize(
    ("call", "found"),
    [
        ("f(1)", {"a:f(b)", "a:f(c)"}),
        ("f(1, 2)", {"a:f(c)"}),
        ("f(1, b=2, c=3)", set()),
        ("f(*some)", {"a:f(c)"}),
        ("f(1, **some)", set()),
        ("other(f)", set()),  # whoever calls it there
    ],
)
def test_what_counts_as_passed(call: str, found: set[str]) -> None:
    assert set(unpassed(parse(a=f"def f(a, b=1, *, c=2): ...\n{call}"))) == found
