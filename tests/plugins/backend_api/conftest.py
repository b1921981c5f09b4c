"""Which processes a test has started."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest


def _children() -> set[int]:
    tasks = Path(f"/proc/{os.getpid()}/task").iterdir()
    return {int(pid) for task in tasks for pid in (task / "children").read_text().split()}


@pytest.fixture(name="own_children")
def _own_children() -> Callable[[], list[int]]:
    """The children that this process has got since the test began; fixtures of other tests may have servers running."""
    before = _children()
    return lambda: sorted(_children() - before)
