"""Which models a user may know of, as their roles say."""

from __future__ import annotations

from functools import lru_cache

from swarmkernel import Limits, Services
from swarmkernel_models_api.models import Rule
from swarmkernel_models_api.types import Model


def by_roles(services: Services) -> Rule:
    """The rule of the service `Limits`, which is there only while accounts are required."""

    def allows(user_id: str, model: Model) -> bool:
        limits: Limits | None = services.find(Limits)  # type: ignore[type-abstract]
        if limits is None:
            return True
        allowed = limits.of(user_id)
        return permits(model.name, tuple(allowed["model_whitelist"]), tuple(allowed["model_blacklist"]))

    return allows


def permits(name: str, whitelist: tuple[str, ...], blacklist: tuple[str, ...]) -> bool:
    """
    Whether lists of prefixes, in any letter case, let a user know of the model *name*.

    The blacklist wins; an empty whitelist allows everything.
    """
    wanted, refused = _folded(whitelist), _folded(blacklist)
    folded = name.casefold()
    return not folded.startswith(refused) and (not wanted or folded.startswith(wanted))


@lru_cache(maxsize=1024)
def _folded(prefixes: tuple[str, ...]) -> tuple[str, ...]:
    r"""The prefixes as names are compared, `\` being `/`; blank ones mean nothing."""
    tidy = (prefix.strip().replace("\\", "/").lstrip("/").casefold() for prefix in prefixes)
    return tuple(filter(None, tidy))
