"""The permissions that roles are made of."""

from swarmkernel import Level, Safety
from swarmkernel_accounts.permissions import PERMISSIONS

BY_ID = {permission.id: permission for permission in PERMISSIONS}


def test_all_are_there():
    """Every permission of the API has a name and a group, and none is there twice."""
    assert 66 == len(PERMISSIONS) == len(BY_ID)
    assert all(p.name and p.group for p in PERMISSIONS)
    assert {"Special", "Admin", "Backends Admin", "Control", "Parameters", "User", "ComfyUI"} == {
        p.group for p in PERMISSIONS
    }


def test_levels():
    """A guest holds five permissions, and only an owner holds those that lead to all others."""

    def of(level):
        return {p.id for p in PERMISSIONS if p.default == level}

    assert {
        "fundamental",
        "fundamental_generate_tab_access",
        "fundamental_model_access",
        "read_user_settings",
        "use_tokenizer",
    } == of(Level.GUEST)
    assert {
        "*",
        "automated_control",
        "configure_roles",
        "install",
        "local_image_folder",
        "manage_users",
        "server_debug_message",
        "shutdown",
    } == of(Level.OWNER)


def test_the_powerful_ones():
    """Nobody below an admin holds a powerful permission by default."""
    powerful = [p for p in PERMISSIONS if p.safety is Safety.POWERFUL]

    assert 12 == len(powerful)
    assert Level.ADMIN <= min(p.default for p in powerful)


def test_other_packages_agree(swarm_boot):
    """A kernel with every installed plugin boots strictly: no two packages differ on a permission."""
    kernel = swarm_boot(strict=True)

    assert BY_ID.keys() <= kernel.permissions.by_id.keys()
    assert [] == kernel.plugins.failed()


def test_descriptions_agree(swarm_boot):
    """What a permission is for is said alike, whichever package is asked."""
    from swarmkernel.kernel import Kernel

    kernel: Kernel = swarm_boot()
    routed = {
        b.route.permission.id: b.route.permission for b in kernel.routes if b.route.permission in PERMISSIONS
    }
    others = {p.id: p for xs in kernel.plugins.gather("swarm_permissions") for p in xs if p.id in BY_ID}

    assert {(i, BY_ID[i].description) for i in (routed | others)} == {
        (p.id, p.description) for p in (routed | others).values()
    }
