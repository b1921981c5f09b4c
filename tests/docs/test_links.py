"""Links and generated pages."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)(?:#([^)\s]+))?\)")


def anchors(text):
    """The anchors that a Markdown page gets from its headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_links():
    """Every relative link of the documentation leads to a file, and to a heading in it."""
    broken = []
    for page in [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("*/README.md"),
        *ROOT.glob("plugins/*/README.md"),
    ]:
        for path, anchor in LINK.findall(page.read_text()):
            target = page.parent / path if path else page
            if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
                broken.append(f"{page.relative_to(ROOT)}: {path}#{anchor}")

    assert [] == broken


def test_hooks():
    """What docs/hooks.md says of each hook is what `make docs` writes."""
    command = [sys.executable, ROOT / "docs" / "hooks.py", "--check"]

    assert 0 == subprocess.run(command, check=False).returncode, "run `make docs`"


def test_routes():
    """docs/routes.md is what `make docs` writes."""
    command = [Path(sys.executable).with_name("swarmkernel"), "routes", "--format", "markdown"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert done.stdout == (ROOT / "docs" / "routes.md").read_text(), "run `make docs`"
