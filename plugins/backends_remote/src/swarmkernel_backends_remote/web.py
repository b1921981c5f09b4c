"""HTTP and WebSockets to one server that may lie or stall: bounded, to checked addresses, without redirects."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs
import orjson

from swarmkernel import VERSION
from swarmkernel_backends_remote.addresses import Target, addresses_of
from swarmkernel_backends_remote.answers import read_object
from swarmkernel_backends_remote.errors import PeerError, PeerLostError
from swarmkernel_backends_remote.settings import RemoteSettings

if TYPE_CHECKING:
    import httpx

    from swarmkernel_backends_remote.sockets import ClientConnection

_BLOCK: Final = 1 << 16
_AGENT: Final = f"SwarmKernel/{VERSION}"


@attrs.define(eq=False)
class Web:
    """The way to one server. `headers` go with every request; `connect_seconds` is how long a connection may take."""

    target: Target
    rules: RemoteSettings
    headers: Mapping[str, str] = attrs.field(repr=False)
    connect_seconds: float
    _tls: ssl.SSLContext | None = attrs.field(default=None, init=False, repr=False)
    _client: httpx.AsyncClient | None = attrs.field(default=None, init=False, repr=False)

    @property
    def name(self) -> str:
        """How texts name the server."""
        return f"The server at {self.target.netloc[:100]}"

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
        )

    async def close(self) -> None:
        """Let go of the connections."""
        if self._client is not None:
            await self._client.aclose()

    async def post(self, path: str, body: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """The JSON object that answers a POST of one; PeerLostError if none came in time, PeerError if it is no good."""
        with self._failures():
            try:
                async with asyncio.timeout(seconds):
                    status, data = await self._post(path, orjson.dumps(body))
            except TimeoutError:
                raise PeerLostError(f"{self.name} did not answer within {seconds:g} seconds.") from None
            return await self._understood(status, data)

    async def _post(self, path: str, content: bytes) -> tuple[int, bytes]:
        import httpx  # noqa: PLC0415

        addresses = await addresses_of(self.target, self.rules.allowed_hosts)
        for address in addresses:
            try:
                return await self._post_to(address, path, content)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                self._check_certificate(error)
        raise PeerLostError(f"{self.name} is out of reach.")

    async def _post_to(self, address: str, path: str, content: bytes) -> tuple[int, bytes]:
        import httpx  # noqa: PLC0415

        if self._client is None:
            raise PeerLostError(f"{self.name} is no longer in use.")
        request = self._client.build_request(
            "POST",
            httpx.URL(self.target.url(path)).copy_with(host=address),
            content=content,
            headers={"Host": self.target.netloc, "Content-Type": "application/json"},
            extensions={"sni_hostname": self.target.host},
        )
        answer = await self._client.send(request, stream=True)
        try:
            return answer.status_code, await self._body(answer)
        finally:
            await answer.aclose()

    async def _body(self, answer: httpx.Response) -> bytes:
        if answer.is_redirect:
            raise PeerError(f"{self.name} leads elsewhere, which is not followed; name the final address.")
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise PeerError(f"{self.name} sent its answer compressed, which was not asked for.")
        body = bytearray()
        async for block in answer.aiter_raw(_BLOCK):
            body += block
            if len(body) > self._most_bytes:
                raise PeerError(f"{self.name} sent more than {self.rules.max_answer_mib} MiB at once.")
        return bytes(body)

    @property
    def _most_bytes(self) -> int:
        return self.rules.max_answer_mib << 20

    async def _understood(self, status: int, data: bytes) -> dict[str, Any]:
        if status >= 500:
            raise PeerLostError(f"{self.name} answered {status}.")
        try:
            answer = await read_object(data)
        except PeerError as error:
            text = error.text if status < 400 else f"It answered {status}."
            raise PeerError(f"{self.name} cannot be understood. {text}") from None
        if status >= 400 and "error" not in answer:
            raise PeerError(f"{self.name} answered {status}.")
        return answer

    @asynccontextmanager
    async def socket(self, path: str) -> AsyncIterator[ClientConnection]:
        """An open WebSocket; whatever breaks it is a PeerLostError."""
        with self._failures():
            connection = await self._connected(path)
            try:
                yield connection
            finally:
                connection.transport.abort()

    async def _connected(self, path: str) -> ClientConnection:
        from swarmkernel_backends_remote.sockets import DirectConnect  # noqa: PLC0415

        is_safe = self.target.scheme == "https"
        for address in await addresses_of(self.target, self.rules.allowed_hosts):
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
                    max_size=self._most_bytes,
                    max_queue=4,
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
