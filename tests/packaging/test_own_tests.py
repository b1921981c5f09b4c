"""Every distribution's own tests, run against its wheel: what it imports without declaring it is not there."""

import re
import shutil

import pytest

from swarmkernel.scaffold import TEMPLATES

#: What opens sessions, and keeps them.
SERVER = ("swarmkernel-basic-api", "swarmkernel-store-sql")
#: Both engines: what the tests of one, and of the starter model, compare it with.
ENGINES = ("swarmkernel-backends-onnx", "swarmkernel-backends-torch[onnx]")
#: Folder -> what its tests use beside the distribution itself.
BESIDE = {
    "kernel": (*SERVER, "swarmkernel-backend-api"),
    "store_sql": ("swarmkernel-store-sql[postgresql]", "hypothesis"),
    "basic_api": (*SERVER, "hypothesis"),
    "accounts": (*SERVER, "hypothesis"),
    "admin_api": SERVER,
    "backend_api": SERVER,
    "models_api": (*SERVER, "hypothesis", "numpy", "pillow", "safetensors"),
    "t2i_api": (*SERVER, "hypothesis", "psutil", "safetensors"),
    "diffusion": ("hypothesis",),
    "backends_torch": ENGINES,
    "backends_onnx": (*SERVER, *ENGINES, "swarmkernel-starter-model"),
    "backends_remote": (*SERVER, "swarmkernel-accounts", "safetensors"),
    "starter_model": ENGINES,
}
#: The starter model's files, as the tests of the engines find them.
STARTER = "plugins/starter_model/src/swarmkernel_starter_model/models"
#: Folder -> what else of this tree its tests read.
READS = {
    "backends_torch": [STARTER],
    "backends_onnx": [STARTER, "tests/plugins/backends_torch"],
    "backends_remote": ["tests/plugins/t2i_api/canvas.py"],
    "starter_model": ["plugins/starter_model/training"],
}
#: Folder -> options that leave out tests which use more: an oracle, pip, the README beside the source, other tests.
WITHOUT = {
    "kernel": ["--deselect=tests/kernel/test_plugin_commands.py::test_new"],
    "diffusion": ["--ignore=tests/plugins/diffusion/test_oracle.py"],
    "models_api": [
        f"--ignore=tests/plugins/models_api/test_{name}.py" for name in ("limits", "scan", "install_models")
    ],
    "t2i_api": [f"--ignore=tests/plugins/t2i_api/test_{name}.py" for name in ("people", "readme")],
}


@pytest.mark.soak
@pytest.mark.parametrize("folder", BESIDE)
def test_own_tests(folder, projects, root, install, tmp_path):
    """A distribution's tests pass where nothing is installed but its wheel, what it requires, and what the tests name."""
    project = next(p for p in projects if p.folder.name == folder)
    venv = install(project.name, *BESIDE[folder], "swarmkernel[testing]")
    place = "tests/kernel" if folder == "kernel" else f"tests/plugins/{folder}*"
    tests = [str(path.relative_to(root)) for path in root.glob(place)]
    readme = str(project.folder.relative_to(root) / "README.md")
    for path in (*tests, "pyproject.toml", readme, *READS.get(folder, ())):
        _copy(root / path, tmp_path / path)

    command = ["python", "-m", "pytest", "-q", "-m", "not soak", *WITHOUT.get(folder, []), *tests]
    passed = venv.run(*command, folder=tmp_path)
    shutil.rmtree(venv.folder)  # over a gigabyte with torch

    assert re.search(r"^\d+ passed", passed, re.MULTILINE)


def test_every_distribution_is_tested(projects):
    """No distribution is left out."""
    assert {project.folder.name for project in projects} == BESIDE.keys()


def _copy(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def test_what_is_not_declared_is_not_there(build, install, tmp_path):
    """A plugin that imports what it does not require fails alone, where nobody else has brought it."""
    (routes,) = TEMPLATES
    routes.write("liar", tmp_path / "liar")
    module = tmp_path / "liar" / "src" / "swarmkernel_liar" / "routes.py"
    module.write_text(f"{module.read_text()}\nimport httpx\n")
    venv = install(f"swarmkernel-liar @ {build(tmp_path / 'liar').as_uri()}")

    with pytest.raises(AssertionError, match="No module named 'httpx'"):
        venv.run("swarmkernel", "check")
    with pytest.raises(AssertionError, match="imports httpx, which no requirement brings"):
        venv.run("swarmkernel", "plugins", "check", "liar")
