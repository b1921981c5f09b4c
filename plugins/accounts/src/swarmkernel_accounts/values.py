"""What is kept about users and roles."""

import attrs


class AccountError(ValueError):
    """A change of users or roles that cannot be; nothing was changed. The text is for the caller."""


@attrs.frozen
class User:
    """
    A user.

    *password* is a hash; without one there is no login by password. *password_by_admin*: not chosen by the user.
    *created* is in Unix seconds.
    """

    id: str
    roles: tuple[str, ...]
    password: str | None = attrs.field(default=None, repr=False)
    password_by_admin: bool = True
    oauth_email: str = ""
    created: float = 0.0


@attrs.frozen
class Role:
    """
    A role: permissions by id, and limits.

    *model_whitelist* and *model_blacklist* hold beginnings of model names; an empty white list allows every model.
    *is_auto_generated*: built in.
    """

    name: str = ""
    description: str = ""
    max_outpath_depth: int = 5
    max_t2i_simultaneous: int = 32
    allow_unsafe_outpaths: bool = False
    model_whitelist: tuple[str, ...] = ()
    model_blacklist: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()
    is_auto_generated: bool = False
