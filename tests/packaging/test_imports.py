"""Who may import whom."""

import ast
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

KERNEL = "swarmkernel"
HEAVY = {"torch", "diffusers", "transformers", "onnxruntime", "numpy", "PIL"}
#: Distribution -> those of ours that it may import; what is not listed may import the kernel alone.
ROADS = {
    "swarmkernel": set(),
    "swarmkernel-diffusion": set(),
    "swarmkernel-admin-api": {"swarmkernel", "swarmkernel-accounts"},
    "swarmkernel-models-api": {"swarmkernel", "swarmkernel-backend-api"},
    "swarmkernel-t2i-api": {"swarmkernel", "swarmkernel-backend-api", "swarmkernel-models-api"},
    "swarmkernel-starter-model": {"swarmkernel", "swarmkernel-models-api"},
}
BACKENDS = ROADS["swarmkernel-t2i-api"] | {"swarmkernel-t2i-api", "swarmkernel-diffusion"}
ROADS |= {f"swarmkernel-backends-{name}": BACKENDS for name in ("torch", "onnx", "remote")}
#: Declared though not imported by name: Hypercorn, SQLAlchemy and diffusers import them, and onnxruntime has two names.
UNNAMED = {
    "swarmkernel": {"h11", "h2"},
    "swarmkernel-store-sql": {"aiosqlite"},
    "swarmkernel-backends-onnx": {"onnxruntime", "onnxruntime-gpu"},
    "swarmkernel-backends-torch": {"accelerate"},
}
INSTALLED = packages_distributions()


def imports(tree):
    """Every import of a module, as (dotted module, imported name or None, whether it waits for a call)."""
    lazy = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef) or _for_types(outer)
        for inner in ast.walk(outer)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None, id(node) in lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            yield from ((node.module, alias.name, id(node) in lazy) for alias in node.names)


def _for_types(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def foreign(project):
    """Imports of a distribution from other packages: (path, module, name, lazy)."""
    for path, tree in project.trees.items():
        for module, name, lazy in imports(tree):
            top = module.partition(".")[0]
            if top not in sys.stdlib_module_names and top != project.package:
                yield path, module, name, lazy


def distributions_of(module, projects):
    """The distributions that an imported module may come from."""
    top = module.partition(".")[0]
    ours = {p.name for p in projects if p.package == top}
    return ours or {re.sub(r"[-_.]+", "-", d).lower() for d in INSTALLED.get(top, ())}


def test_only_what_is_declared(project, projects):
    """A package imports what its pyproject.toml declares; extras only late, or in its `testing`."""
    undeclared = []
    for path, module, _, lazy in foreign(project):
        declared = set(project.dependencies)
        if lazy:
            declared |= set().union(*project.extras.values())
        elif "testing" in path.relative_to(project.source).as_posix():
            declared |= project.extras.get("testing", set())
        if not declared & distributions_of(module, projects):
            undeclared.append(f"{path.name}: {module}")

    assert [] == undeclared


def test_nothing_is_declared_in_vain(project, projects):
    """A package declares only what it imports."""
    used = {d for _, module, _, _ in foreign(project) for d in distributions_of(module, projects)}
    if "entry-points" in project.meta["project"]:
        used.add(KERNEL)

    assert set() == project.dependencies - used - UNNAMED.get(project.name, set())


def test_roads(project, projects):
    """Packages of ours depend on one another only along the roads of the design."""
    ours = {p.name for p in projects}

    assert project.dependencies & ours <= ROADS.get(project.name, {KERNEL})


def test_only_public_names(project, projects):
    """From another package of ours come only top-level names that it exports, or its `testing`."""
    others = {p.package: p for p in projects}
    private = []
    for path, module, name, _ in foreign(project):
        top, _, rest = module.partition(".")
        if top not in others or rest.partition(".")[0] == "testing":
            continue
        if rest or name not in {*exported(others[top]), "testing"}:
            private.append(f"{path.name}: from {module} import {name}")

    assert [] == private


def exported(project):
    """The literal value of a package's __all__."""
    for node in project.trees[project.source / "__init__.py"].body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    return []


def test_diffusion_is_arrays_only(projects):
    """The engine is built on NumPy-like arrays and attrs alone."""
    diffusion = next(p for p in projects if p.name == "swarmkernel-diffusion")

    assert {"attr", "attrs", "numpy"} >= {m.partition(".")[0] for _, m, _, _ in foreign(diffusion)}


def test_the_kernel_knows_nothing(projects):
    """The kernel's source does not mention what plugins are about."""
    kernel = next(p for p in projects if p.name == KERNEL)
    found = [
        f"{path.name}:{number}: {line.strip()}"
        for path in kernel.trees
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"(?i)image|backend|model|torch|onnx|prompt", line)
    ]

    assert [] == found


def test_loading_plugins_is_light():
    """Booting the kernel with every plugin imports no heavy library."""
    code = (
        "import sys; from swarmkernel.kernel import Kernel; from swarmkernel.settings import SettingsSource\n"
        "kernel = Kernel.boot(SettingsSource(None, {}, {'plugins': {'strict': True}}))\n"
        "print(len(kernel.plugins.working()), *(m for m in sys.modules if '.' not in m))"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    working, *modules = out.split()

    assert int(working) >= 6
    assert set() == HEAVY & set(modules)


def test_the_server_never_holds_torch(swarm_serve):
    """A server whose torch backend runs has not itself loaded torch's libraries."""
    server = swarm_serve()
    backends = server.client().post("ListBackends").values()
    mapped = Path(f"/proc/{server.process.pid}/maps").read_text()

    assert ["torch"] == [b["type"] for b in backends]
    assert [] == re.findall(r"\S*(?:torch|onnxruntime)\S*", mapped)
