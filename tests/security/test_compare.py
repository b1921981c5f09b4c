"""No secret is compared in a way whose time tells how much of it was right."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECRET = re.compile(
    r"(?i)(^|_)(token|tokens|secret|secrets|hash|hashes|digest|signature|password|passwords|hmac)($|_)"
)
FILES = sorted(f for f in ROOT.glob("*/**/src/**/*.py") if ".venv" not in f.parts)
#: Comparisons of names that hold no secret, each with the reason.
HARMLESS = {
    "token_id": "an id is no secret",
    "token_ids": "ids are no secrets",
}


def compared(tree: ast.AST) -> list[tuple[int, str]]:
    """Each `==` or `!=` with an operand named like a secret: the line and the name."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
            found += [(node.lineno, name) for side in (node.left, *node.comparators) for name in names(side)]
    return found


def names(side: ast.expr) -> list[str]:
    """The names in one operand that look like a secret's; of a call only that of what it returns counts."""
    if isinstance(side, ast.Call):
        side = side.func
    name = side.attr if isinstance(side, ast.Attribute) else side.id if isinstance(side, ast.Name) else ""
    if isinstance(side, ast.Subscript):
        part = side.slice
        name = part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else name
    return [name] if SECRET.search(name) and name not in HARMLESS else []


@pytest.mark.parametrize("file", FILES, ids=[str(f.relative_to(ROOT)) for f in FILES])
def test_no_secret_is_compared_with_equals(file):
    """Nothing named like a secret stands beside `==` or `!=`; `hmac.compare_digest` is for that."""
    assert [] == compared(ast.parse(file.read_text()))


@pytest.mark.parametrize(
    "code",
    [
        "given == token",
        "self.secret != x",
        "row.password_hash == other",
        "a['signature'] == b",
        "x == sha256(y).hexdigest() == hash_of(z)",
        "user.password == given",
    ],
)
def test_the_check_sees(code):
    """Such comparisons are found."""
    assert compared(ast.parse(code))
