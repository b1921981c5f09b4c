"""The cookies and the header that carry a login token."""

from collections.abc import Mapping
from urllib.parse import unquote

#: What clients of this API know it by.
NAME = "swarm_token"
#: Over HTTPS browsers take a cookie of this name from this very host alone, not from another site of its domain.
OWN_NAME = f"__Host-{NAME}"
YEAR = 365 * 24 * 3600


def given(text: str, *, secure: bool) -> list[tuple[str, str]]:
    """The reply headers that hand a token to a browser; *secure* where the client sees HTTPS."""
    return _headers(text, YEAR, secure=secure)


def expired(*, secure: bool) -> list[tuple[str, str]]:
    """The reply headers that take it back."""
    return _headers("", 0, secure=secure)


def presented(headers: Mapping[str, str]) -> str | None:
    """
    The token's text in request *headers* (names in lower case): the cookie's, else that of ``Authorization: Bearer``.

    Of the two cookies only the one that nobody else can set counts where it is there. None if there is none, or
    cookies of one name differ: another site of the same domain may have set one of them.
    """
    cookies = headers.get("cookie", "")
    values = set(_values(cookies, OWN_NAME)) or set(_values(cookies, NAME))
    if values:
        return values.pop() if len(values) == 1 else None
    scheme, _, text = headers.get("authorization", "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" else None


def _headers(text: str, seconds: int, *, secure: bool) -> list[tuple[str, str]]:
    names, flags = ((NAME, OWN_NAME), "; Secure") if secure else ((NAME,), "")
    rest = f"Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{flags}"
    return [("set-cookie", f"{name}={text}; {rest}") for name in names]


def _values(header: str, wanted: str) -> list[str]:
    pairs = (part.partition("=") for part in header.split(";"))
    return [unquote(value.strip().strip('"')) for name, _, value in pairs if name.strip() == wanted]
