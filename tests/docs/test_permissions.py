"""The table of docs/permissions.md."""

import pytest

from swarmkernel.kernel import Kernel
from swarmkernel.settings import SettingsSource


@pytest.fixture(name="kernel", scope="module")
def _kernel():
    return Kernel.boot(SettingsSource(None, {}, {"plugins": {"strict": True}}))


def test_table(page, kernel):
    """The page lists every permission as it is declared, with the routes that need it."""
    rows = [
        (
            p.id,
            p.name,
            p.group,
            p.default.name.lower(),
            p.safety.name.lower(),
            ", ".join(b.route.name for b in kernel.routes if b.route.permission == p),
        )
        for p in sorted(kernel.permissions.by_id.values(), key=lambda p: (p.group, p.id))
    ]

    assert rows == page("permissions.md").table("id", "name", "group", "lowest role", "safety", "routes")
