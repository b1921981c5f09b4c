"""What roles allow together, and when rights cover others."""

from itertools import product

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmkernel_accounts import EVERYTHING, Rights, Role
from swarmkernel_accounts.rights import Models

#: Every name of up to four letters: longer than the beginnings that the lists are drawn from.
NAMES = ["".join(letters) for length in range(5) for letters in product("abc", repeat=length)]
BEGINNINGS = st.frozensets(st.text("abc", min_size=1, max_size=3), max_size=4)
MODELS = st.builds(Models, BEGINNINGS, BEGINNINGS)
LISTS = st.lists(st.text("aAbB", min_size=1, max_size=2), max_size=3).map(tuple)
ROLES = st.builds(
    Role,
    max_outpath_depth=st.integers(0, 3),
    max_t2i_simultaneous=st.integers(1, 3),
    allow_unsafe_outpaths=st.booleans(),
    model_whitelist=LISTS,
    model_blacklist=LISTS,
    permissions=st.lists(st.sampled_from(["*", "p", "q", "r"]), max_size=3).map(tuple),
)
RIGHTS = st.lists(ROLES, max_size=3).map(Rights.of)


def allowed(models):
    """The names among NAMES that these lists let through, by the wording of the rule."""
    return {
        name
        for name in NAMES
        if not any(name.startswith(start) for start in models.denied)
        and (not models.allowed or any(name.startswith(start) for start in models.allowed))
    }


def test_union():
    """Roles together have all permissions, the highest limits, and all entries of the lists of models."""
    small = Role(
        max_outpath_depth=7,
        max_t2i_simultaneous=1,
        model_whitelist=("SDXL/",),
        model_blacklist=("secret",),
        permissions=("a", "b"),
    )
    large = Role(
        max_outpath_depth=2,
        max_t2i_simultaneous=9,
        allow_unsafe_outpaths=True,
        model_whitelist=("flux/", "sdxl/"),
        permissions=("b", "c"),
    )

    assert {
        "max_outpath_depth": 7,
        "max_t2i_simultaneous": 9,
        "allow_unsafe_outpaths": True,
        "model_whitelist": ("flux/", "sdxl/"),
        "model_blacklist": ("secret",),
    } == Rights.of([small, large]).limits()
    assert {"a", "b", "c"} == Rights.of([small, large]).permissions


def test_no_role():
    """Without a role there is no permission, one picture at a time, and no model."""
    nothing = Rights.of([])

    assert (frozenset(), 1) == (nothing.permissions, nothing.max_t2i_simultaneous)
    assert set() == allowed(nothing.models)
    assert EVERYTHING.covers(nothing)


@pytest.mark.parametrize(
    ("permissions", "held"), [((), False), (("p",), True), (("q",), False), (("*",), True), (("p*",), False)]
)
def test_has(permissions, held):
    """A permission is held by its own id, or by full control."""
    assert held == Rights.of([Role(permissions=permissions)]).has("p")


@given(st.lists(ROLES, max_size=4))
def test_order_of_roles(roles):
    """In which order roles come, and how often, makes no difference."""
    assert Rights.of(roles) == Rights.of([*reversed(roles), *roles])


@given(MODELS, MODELS)
def test_cover_of_models(mine, theirs):
    """Lists of models cover others exactly if they let every name through that the others do."""
    assert (allowed(theirs) <= allowed(mine)) == mine.cover(theirs)


@given(RIGHTS, RIGHTS)
def test_covers(mine, theirs):
    """Rights cover others exactly if no permission, limit or model is beyond them; full control covers all."""
    within = (
        mine.permissions >= theirs.permissions
        and mine.max_outpath_depth >= theirs.max_outpath_depth
        and mine.max_t2i_simultaneous >= theirs.max_t2i_simultaneous
        and mine.allow_unsafe_outpaths >= theirs.allow_unsafe_outpaths
        and allowed(mine.models) >= allowed(theirs.models)
    )

    assert (within or "*" in mine.permissions) == mine.covers(theirs)


@given(RIGHTS, RIGHTS, RIGHTS)
def test_covering_is_an_order(one, two, three):
    """Rights cover themselves, and what those cover that they cover."""
    assert one.covers(one)
    if one.covers(two) and two.covers(three):
        assert one.covers(three)


@given(RIGHTS, RIGHTS)
def test_exceeds_takes_bounds_together(mine, theirs):
    """What is within one of two bounds is within both of them."""
    assert not mine.exceeds(mine, theirs)
    assert not theirs.exceeds(mine, theirs)


@pytest.mark.parametrize(
    "more",
    [
        {"permissions": ("p", "q")},
        {"max_outpath_depth": 6},
        {"max_t2i_simultaneous": 33},
        {"allow_unsafe_outpaths": True},
        {"model_whitelist": ()},
        {"model_whitelist": ("sd", "flux")},
        {"model_blacklist": ()},
    ],
)
def test_each_dimension_counts(more):
    """Each right and each list is looked at: a role that differs in one of them is not covered."""
    role = Role(permissions=("p",), model_whitelist=("sdxl",), model_blacklist=("sdxl/secret",))

    assert not Rights.of([role]).covers(Rights.of([attrs.evolve(role, **more)]))
