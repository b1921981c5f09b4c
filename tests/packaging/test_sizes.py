"""Code stays in pieces that a person can hold in mind."""

import ast
import re
import statistics
from importlib.metadata import entry_points
from pathlib import Path

import pytest


@pytest.fixture(name="functions", scope="module")
def _functions(projects):
    """(lines, where) of every function of every package, docstrings included, decorators not."""
    return [
        (node.end_lineno - node.lineno + 1, f"{path.relative_to(p.folder.parent)}:{node.lineno} {node.name}")
        for p in projects
        for path, tree in p.trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


@pytest.fixture(name="files", scope="module")
def _files(projects):
    """(lines, where) of every module of every package."""
    return [
        (len(path.read_text().splitlines()), str(path.relative_to(p.folder.parent)))
        for p in projects
        for path in p.trees
    ]


def percentile_95(sizes):
    """The size that 95 of 100 do not exceed."""
    return statistics.quantiles((size for size, _ in sizes), n=20, method="inclusive")[-1]


def over(sizes, limit):
    """Those above a limit, largest first."""
    return sorted((s for s in sizes if s[0] > limit), reverse=True)


def test_no_function_is_long(functions):
    """No function has over 60 lines."""
    assert [] == over(functions, 60)


def test_functions_are_short(functions):
    """Half the functions have at most 8 lines, 95 of 100 at most 35."""
    assert statistics.median(size for size, _ in functions) <= 8
    assert percentile_95(functions) <= 35


def test_no_file_is_long(files):
    """No module has over 400 lines."""
    assert [] == over(files, 400)


def test_files_are_short(files):
    """95 of 100 modules have at most 250 lines."""
    assert percentile_95(files) <= 250, over(files, 250)


def test_the_kernel_is_light(swarm_serve):
    """A kernel without plugins that has answered resides in under 60 MiB."""
    server = swarm_serve(*(f"--disable={ep.name}" for ep in entry_points(group="swarmkernel.v1")))
    server.client(login=False).http.get("/openapi.json").raise_for_status()
    status = Path(f"/proc/{server.process.pid}/status").read_text()

    assert int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) < 60 * 1024
