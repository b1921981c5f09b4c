"""What a plugin's source imports, held against what its distribution requires."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, packages_distributions
from pathlib import Path

import attrs

from swarmkernel.discovery import normal


@attrs.frozen
class Import:
    """An import of the package *top*. A *late* one waits for a call, or stands in a ``testing`` package."""

    line: int
    top: str
    late: bool


def undeclared(ep: EntryPoint) -> Iterator[str]:
    """
    The imports of a plugin that its distribution does not require, as text.

    What an extra requires may be imported late only, since it may be absent.
    """
    package = ep.module.partition(".")[0]
    provided = packages_distributions()
    always, extras = _requirements(ep)
    for path in _files(package):
        try:
            tree = ast.parse(path.read_bytes())
        except SyntaxError as exc:
            yield f"{path.name}:{exc.lineno} is no Python: {exc.msg}"
            continue
        for found in _imports(tree, path):
            if found.top in sys.stdlib_module_names or found.top in {package, "__future__"}:
                continue
            if not _distributions(found.top, provided) & (always | extras if found.late else always):
                yield f"{path.name}:{found.line} imports {found.top}, which no requirement brings"


def _requirements(ep: EntryPoint) -> tuple[set[str], set[str]]:
    """The distributions that the plugin's own requires, always and as extras; of its own it may import all."""
    always, extras = set[str](), set[str]()
    for requirement in (ep.dist.requires or ()) if ep.dist else ():
        named, _, marker = requirement.partition(";")
        (extras if "extra" in marker else always).add(normal(named))
    return always | ({normal(ep.dist.name)} if ep.dist else set()), extras


def _distributions(top: str, provided: Mapping[str, list[str]]) -> set[str]:
    """What may bring a package: whoever installed it, or else its namesake."""
    return {normal(name) for name in provided.get(top, [top]) if name}  # a broken one has none


def _files(package: str) -> list[Path]:
    spec = importlib.util.find_spec(package)
    if spec is None:
        return []
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    files = sorted(path for folder in folders for path in folder.rglob("*.py")) or [Path(spec.origin or "")]
    return [path for path in files if path.suffix == ".py"]


def _imports(tree: ast.Module, path: Path) -> Iterator[Import]:
    for node, late in _walk(tree):
        for module in _modules(node):
            yield Import(node.lineno, module.partition(".")[0], late or "testing" in path.parts)


def _walk(tree: ast.AST, *, late: bool = False) -> Iterator[tuple[ast.stmt, bool]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, late
        else:
            yield from _walk(node, late=late or _waits(node))


def _waits(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Try)


def _modules(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
