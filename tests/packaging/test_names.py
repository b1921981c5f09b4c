"""Names and rooms are where the design says."""

import ast
import inspect
import re
import subprocess
import sys

import pytest

GROUP = "swarmkernel.v1"
KERNEL = "swarmkernel"
ROOMS = ("plugin.py", "permissions.py", "routes.py")
#: A person's or a machine's folder, or the address of a package index, in any file.
PRIVATE = re.compile(
    r"""(?<![\w.~-])/(?:work|root|home/\w+|Users/\w+)/        # a path of this or that machine
    |--(?:extra-)?index-url|PIP_(?:EXTRA_)?INDEX_URL
    |https?://[^/\s]*(?:registry|artifactory|nexus|mirror|pypi)[^/\s]*/(?!project/)""",
    re.VERBOSE,
)


def test_distribution(project):
    """Folder, distribution and package have one name in three spellings."""
    folder = project.folder.name
    wanted = KERNEL if folder == "kernel" else f"{KERNEL}-{folder.replace('_', '-')}"

    assert wanted == project.name
    assert [project.package] == [
        p.name for p in (project.folder / "src").glob("[!.]*") if p.suffix != ".egg-info"
    ]


def test_entry_point(project):
    """A plugin's one entry point is named for its folder and names the module `plugin`."""
    found = project.meta["project"].get("entry-points", {}).get(GROUP, {})
    is_plugin = (project.source / "plugin.py").exists()

    assert ({project.folder.name: f"{project.package}.plugin"} if is_plugin else {}) == found


def test_metadata(project, projects):
    """Every distribution says its license, Python, version and build backend alike, and is typed."""
    meta = project.meta["project"]
    ours = {p.name for p in projects}

    assert ("MIT", ">=3.11", "README.md") == (meta["license"], meta["requires-python"], meta["readme"])
    assert projects[0].meta["project"]["version"] == meta["version"]
    assert projects[0].meta["build-system"] == project.meta["build-system"]
    assert (project.folder / meta["readme"]).stat().st_size > 200
    assert (project.source / "py.typed").exists()
    assert "py.typed" in project.meta["tool"]["setuptools"]["package-data"][project.package]
    for requirement in meta["dependencies"]:
        if re.split(r"[^\w-]", requirement)[0] in ours:
            assert requirement.endswith(">=1.0,<2")


def test_rooms(api):
    """Every API plugin has the same rooms."""
    assert [] == [room for room in ROOMS if not (api.source / room).exists()]


def test_plugin_holds_hook_implementations(api):
    """`plugin.py` holds hook implementations, and nothing else."""
    others = [
        getattr(node, "name", ast.unparse(node))
        for node in api.trees[api.source / "plugin.py"].body
        if not isinstance(node, ast.Import | ast.ImportFrom)
        and not _is_docstring(node)
        and not _is_hook(node)
    ]

    assert [] == others


def _is_docstring(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_hook(node):
    return isinstance(node, ast.FunctionDef) and any(
        ast.unparse(d).startswith("hookimpl") for d in node.decorator_list
    )


def test_permissions_holds_values(api):
    """`permissions.py` defines values, and neither functions nor classes."""
    kinds = (ast.Import, ast.ImportFrom, ast.Expr, ast.Assign, ast.AnnAssign)

    assert [] == [n for n in api.trees[api.source / "permissions.py"].body if not isinstance(n, kinds)]


def test_routes_has_the_table(api):
    """`routes.py` defines ROUTES, a literal table of Route."""
    tables = [
        node.value
        for node in api.trees[api.source / "routes.py"].body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and "ROUTES" in ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
    ]

    assert 1 == len(tables)
    assert isinstance(tables[0], ast.Tuple)
    assert {"Route"} == {ast.unparse(entry.func) for entry in tables[0].elts}


def test_exceptions_end_in_error(project):
    """A class that derives from an exception is named Error."""
    misnamed = [
        f"{path.name}: {node.name}"
        for path, tree in project.trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and any(re.search(r"(Error|Exception)$", ast.unparse(base)) for base in node.bases)
        and not node.name.endswith("Error")
    ]

    assert [] == misnamed


def test_docstrings(project):
    """Every module, public class, and public function or method of one says what it is."""
    assert [] == [
        f"{path.relative_to(project.source)}: {name}"
        for path, tree in project.trees.items()
        for name in undocumented(tree)
    ]


def undocumented(tree):
    """The public names of a module that have no docstring; a setter has its getter's."""
    if not ast.get_docstring(tree) and tree.body:
        yield "the module"
    yield from _undocumented(tree.body)


def _undocumented(body, prefix=""):
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in body:
        if not isinstance(node, kinds) or node.name.startswith("_") or _needs_none(node):
            continue
        if not ast.get_docstring(node):
            yield f"{prefix}{node.name}"
        if isinstance(node, ast.ClassDef):
            yield from _undocumented(node.body, f"{node.name}.")


def _needs_none(node):
    """Overloads and setters, which are other signatures of one thing, and hook implementations, which their spec says."""
    decorators = [ast.unparse(d) for d in node.decorator_list]
    return any(
        d == "overload" or d.endswith((".setter", ".validator")) or d.startswith("hookimpl")
        for d in decorators
    )


def hooks():
    """The hooks of the installed plugins and the kernel: name -> specification."""
    from swarmkernel.kernel import Kernel
    from swarmkernel.settings import SettingsSource

    manager = Kernel.boot(SettingsSource(None, {})).plugins.manager
    callers = (getattr(manager.hook, name) for name in vars(manager.hook) if not name.startswith("_"))
    return {caller.name: caller.spec.function for caller in callers if caller.has_spec()}


HOOKS = hooks()


@pytest.mark.parametrize("name", sorted(HOOKS))
def test_hook(root, name):
    """Every hook has its owner's prefix, a docstring, its place in docs/hooks.md, and a test that uses it."""
    spec = HOOKS[name]
    package = spec.__module__.partition(".")[0]
    prefix = "swarm_" if package == KERNEL else package.removeprefix(f"{KERNEL}_").removesuffix("_api") + "_"
    tests = [p for p in (root / "tests").rglob("test_*.py") if p.parent.name != "packaging"]

    assert name.startswith(prefix)
    assert inspect.getdoc(spec)
    assert f"\n### `{name}(" in (root / "docs" / "hooks.md").read_text()
    assert any(name in path.read_text() for path in tests)


def test_nothing_private_is_tracked(tracked, root):
    """No tracked file names a folder of somebody's machine, or a package index."""
    secret = _index_hosts()
    found = []
    for path in tracked:
        if path.name == ".gitignore":  # a leading slash is the tree's top there
            continue
        text = path.read_bytes().decode(errors="ignore")
        if PRIVATE.search(text) or any(host in text for host in secret):
            found.append(str(path.relative_to(root)))

    assert [] == found


def _index_hosts():
    """The hosts that pip on this machine is told to ask, other than the public one."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True
    ).stdout
    return set(re.findall(r"https?://(?:[^/@\s]*@)?([^/:\s']+)", listed)) - {"localhost", "127.0.0.1"}


def test_nothing_made_is_tracked(tracked, root):
    """No cache, build or data folder is tracked."""
    made = re.compile(r"(^|/)(__pycache__|\.venv|build|dist|data|[\w-]+\.egg-info)/|\.pyc$|\.orig$|\.rej$")
    names = [path.relative_to(root).as_posix() for path in tracked]

    assert [] == [
        n for n in names if made.search(n) and "/src/swarmkernel" not in n.partition(".egg-info")[0]
    ]


@pytest.mark.parametrize(
    "name",
    ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE", "Makefile", "constraints.txt"],
)
def test_the_house_is_complete(tracked, root, name):
    """The files that a stranger looks for are there and in the repository."""
    assert root / name in tracked
    assert (root / name).stat().st_size > 10


def test_the_license_is_the_declared_one(root):
    """The license file is the MIT license that every distribution declares."""
    assert (root / "LICENSE").read_text().startswith("MIT License")


def test_every_test_says_what_is_true(tracked):
    """Every test function has a docstring."""
    silent = [
        f"{path.name}: {node.name}"
        for path in tracked
        if path.name.startswith("test_") and path.suffix == ".py" and "tests" in path.parts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]

    assert [] == silent
