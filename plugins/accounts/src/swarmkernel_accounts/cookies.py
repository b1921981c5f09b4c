"""The cookie and the header that carry a login token."""

from collections.abc import Mapping
from urllib.parse import unquote

NAME = "swarm_token"
YEAR = 365 * 24 * 3600


def given(text: str, *, secure: bool) -> tuple[str, str]:
    """The reply header that hands a token to a browser; *secure* where the client sees HTTPS."""
    return _header(text, YEAR, secure=secure)


def expired(*, secure: bool) -> tuple[str, str]:
    """The reply header that takes it back."""
    return _header("", 0, secure=secure)


def presented(headers: Mapping[str, str]) -> str | None:
    """
    The token's text in request *headers* (names in lower case): the cookie's, else that of ``Authorization: Bearer``.

    None if there is none, or cookies differ: another site of the same domain may have set one of them.
    """
    values = set(_values(headers.get("cookie", "")))
    if values:
        return values.pop() if len(values) == 1 else None
    scheme, _, text = headers.get("authorization", "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" else None


def _header(text: str, seconds: int, *, secure: bool) -> tuple[str, str]:
    flags = "; Secure" if secure else ""
    return "set-cookie", f"{NAME}={text}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{flags}"


def _values(header: str) -> list[str]:
    pairs = (part.partition("=") for part in header.split(";"))
    return [unquote(value.strip().strip('"')) for name, _, value in pairs if name.strip() == NAME]
