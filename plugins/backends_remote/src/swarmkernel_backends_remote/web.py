"""HTTP and WebSockets to one server that may lie or stall: bounded, to checked addresses, without redirects and cookies."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Final

import attrs
import orjson

from swarmkernel import VERSION
from swarmkernel_backends_remote.addresses import Rules, Target
from swarmkernel_backends_remote.answers import read_object, without
from swarmkernel_backends_remote.connection import Connection, headers_of
from swarmkernel_backends_remote.errors import PeerError, PeerLostError

if TYPE_CHECKING:
    import httpx

    from swarmkernel_backends_remote.sockets import ClientConnection

#: An answer of more pieces than this is refused if they are smaller than that on average: each costs time.
_MANY: Final = 1000
_SMALL: Final = 64
_AGENT: Final = f"SwarmKernel/{VERSION}"
_SECRET: Final = 4


@attrs.frozen
class _Limits:
    """How long one answer may take, and how long it may be."""

    seconds: float
    size: int


@attrs.define(eq=False)
class Web:
    """The way to one server. `headers` go with every request; `connect_seconds` is how long a connection may take."""

    target: Target
    rules: Rules
    headers: Mapping[str, str] = attrs.field(repr=False)
    connect_seconds: float
    _tls: ssl.SSLContext | None = attrs.field(default=None, init=False, repr=False)
    _client: httpx.AsyncClient | None = attrs.field(default=None, init=False, repr=False)

    @classmethod
    def of(cls, settings: Connection, rules: Rules) -> Web:
        """The way to the server that a backend's settings name. PeerError if they cannot be right."""
        seconds = float(max(1, settings.connection_attempt_timeout_seconds))
        return cls(Target.of(settings.address), rules, headers_of(settings), seconds)

    @property
    def name(self) -> str:
        """How texts name the server."""
        return f"The server at {self.target.netloc[:100]}"

    def hide(self, said: str) -> str:
        """A text without secrets of ours that the server may have repeated."""
        values = self.headers.values()
        words = {
            part for value in values for part in (value, value.partition(" ")[2]) if len(part) >= _SECRET
        }
        return without(sorted(words, key=len, reverse=True), said)

    async def open(self) -> None:
        """Get ready; nothing is sent yet. Libraries and certificates are loaded in a thread."""
        self._client = await asyncio.to_thread(self._made)

    def _made(self) -> httpx.AsyncClient:
        import httpx  # noqa: PLC0415  # heavy, and most servers never need it

        from swarmkernel_backends_remote import sockets  # noqa: F401, PLC0415

        self._tls = httpx.create_ssl_context()
        return httpx.AsyncClient(
            verify=self._tls,
            trust_env=False,
            timeout=httpx.Timeout(None, connect=self.connect_seconds),
            headers={**self.headers, "Accept-Encoding": "identity", "User-Agent": _AGENT},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            limits=httpx.Limits(max_keepalive_connections=20),
        )

    async def close(self) -> None:
        """Let go of the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def object(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        seconds: float | None = None,
        most_mib: int | None = None,
        may_refuse: bool = False,
        **content: Any,
    ) -> dict[str, Any]:
        """The JSON object that answers a request, whose `body` is one too.

        PeerLostError if none came in time, PeerError if it is no good. With `may_refuse` a 4xx that holds an `error` is an answer.
        """
        limits = self._limits(seconds, most_mib)
        with self._failures():
            status, data = await self._fetch(method, path, limits, _content(body, content))
            if status >= 500 or (status >= 400 and not may_refuse):
                raise self._failure(status, path)
            try:
                answer = await read_object(data)
            except PeerError as error:
                if status >= 400:
                    raise self._failure(status, path) from None
                raise PeerError(f"{self.name} cannot be understood. {error.text}") from None
            if status >= 400 and "error" not in answer:
                raise self._failure(status, path)
            return answer

    async def file(
        self, method: str, path: str, *, body: Mapping[str, Any] | None = None, **content: Any
    ) -> bytes:
        """The bytes that answer a request."""
        with self._failures():
            limits = self._limits(None, None)
            status, data = await self._fetch(method, path, limits, _content(body, content))
            if status >= 400:
                raise self._failure(status, path)
            return data

    def _limits(self, seconds: float | None, most_mib: int | None) -> _Limits:
        settings = self.rules.settings
        mib = settings.max_answer_mib if most_mib is None else min(most_mib, settings.max_answer_mib)
        return _Limits(seconds or self.connect_seconds + settings.answer_seconds, mib << 20)

    def _failure(self, status: int, path: str) -> PeerError | PeerLostError:
        """The error for a status: a server, or what is before it, that fails is lost; another one refuses."""
        text = f"{self.name} answered {status} to {path[:100]}."
        return PeerLostError(text) if status >= 500 else PeerError(text)

    async def _fetch(
        self, method: str, path: str, limits: _Limits, content: Mapping[str, Any]
    ) -> tuple[int, bytes]:
        """The status of an answer, and its body."""
        try:
            async with asyncio.timeout(limits.seconds):
                return await self._fetch_from_any(method, path, limits, content)
        except TimeoutError:
            raise PeerLostError(f"{self.name} did not answer within {limits.seconds:g} seconds.") from None

    async def _fetch_from_any(
        self, method: str, path: str, limits: _Limits, content: Mapping[str, Any]
    ) -> tuple[int, bytes]:
        import httpx  # noqa: PLC0415

        for address in await self.rules.addresses_of(self.target):
            try:
                return await self._fetch_from(address, method, path, limits, content)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                self._check_certificate(error)
        raise PeerLostError(f"{self.name} is out of reach.")

    async def _fetch_from(
        self, address: str, method: str, path: str, limits: _Limits, content: Mapping[str, Any]
    ) -> tuple[int, bytes]:
        import httpx  # noqa: PLC0415

        if self._client is None:
            raise PeerLostError(f"{self.name} is no longer in use.")
        request = self._client.build_request(
            method,
            httpx.URL(self.target.url(path)).copy_with(host=address),
            extensions={"sni_hostname": self.target.host},
            **content,
        )
        request.headers["Host"] = self.target.netloc
        answer = await self._client.send(request, stream=True)
        try:
            return answer.status_code, await self._body(answer, limits.size)
        finally:
            await answer.aclose()

    async def _body(self, answer: httpx.Response, most: int) -> bytes:
        if answer.is_redirect:
            raise PeerError(f"{self.name} leads elsewhere, which is not followed; name the final address.")
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise PeerError(f"{self.name} sent its answer compressed, which was not asked for.")
        body, count = bytearray(), 0
        async for block in answer.aiter_raw():
            body += block
            count += 1
            if len(body) > most:
                raise PeerError(f"{self.name} sent more than {most >> 20} MiB at once.")
            if count > _MANY and len(body) < count * _SMALL:
                raise PeerError(f"{self.name} sent its answer in too many pieces.")
        return bytes(body)

    @asynccontextmanager
    async def socket(self, path: str, most_mib: int) -> AsyncIterator[ClientConnection]:
        """An open WebSocket, for messages of at most that size; whatever breaks it is a PeerLostError."""
        with self._failures():
            connection = await self._connected(path, self._limits(None, most_mib).size)
            try:
                yield connection
            finally:
                connection.transport.abort()

    async def _connected(self, path: str, size: int) -> ClientConnection:
        from swarmkernel_backends_remote.sockets import DirectConnect  # noqa: PLC0415

        is_safe = self.target.scheme == "https"
        for address in await self.rules.addresses_of(self.target):
            try:
                return await DirectConnect(
                    self.target.url(path, scheme="wss" if is_safe else "ws"),
                    host=address,
                    port=self.target.port,
                    additional_headers=self.headers,
                    user_agent_header=_AGENT,
                    compression=None,
                    proxy=None,
                    open_timeout=self.connect_seconds,
                    max_size=size,
                    max_queue=1,
                    ssl=self._tls if is_safe else None,
                )
            except OSError as error:
                self._check_certificate(error)
        raise PeerLostError(f"{self.name} is out of reach.")

    def _check_certificate(self, error: Exception) -> None:
        """Tell a server that is not the one that was meant from one that cannot be reached."""
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise PeerError(
                f"{self.name} has no certificate that is trusted here and bears its name."
            ) from None

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Turn what the libraries raise into errors that name the server, and nothing that was sent to it."""
        import httpx  # noqa: PLC0415

        from swarmkernel_backends_remote.sockets import InvalidStatus, WebSocketException  # noqa: PLC0415

        try:
            yield
        except InvalidStatus as error:
            status = error.response.status_code
            if status >= 500:
                raise PeerLostError(f"{self.name} answered {status}.") from None
            raise PeerError(f"{self.name} refused a WebSocket: it answered {status}.") from None
        except (httpx.HTTPError, WebSocketException, OSError, EOFError) as error:
            raise PeerLostError(f"{self.name} broke the connection ({type(error).__name__}).") from None


def _content(body: Mapping[str, Any] | None, content: Mapping[str, Any]) -> Mapping[str, Any]:
    if body is None:
        return content
    return {"content": orjson.dumps(body), "headers": {"Content-Type": "application/json"}, **content}
