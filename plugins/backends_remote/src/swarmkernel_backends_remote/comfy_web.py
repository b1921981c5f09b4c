"""Requests that ComfyUI wants beside a POST of JSON: GET, files, and answers that are files or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import attrs

from swarmkernel_backends_remote.addresses import addresses_of
from swarmkernel_backends_remote.errors import PeerError, PeerLostError
from swarmkernel_backends_remote.web import Web


@attrs.define(eq=False)
class ComfyWeb(Web):
    """The way to one server, as bounded and checked as `Web`."""

    @property
    def answer_seconds(self) -> float:
        """How long an answer may take."""
        return self.connect_seconds + self.rules.answer_seconds

    async def object(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        """The JSON object that answers a request."""
        status, data = await self._fetch(method, path, content)
        return await self._understood(status, data)

    async def file(self, path: str, params: Mapping[str, str]) -> bytes:
        """The bytes that answer a GET."""
        return await self._found("GET", path, {"params": params})

    async def tell(self, path: str, body: Mapping[str, Any]) -> None:
        """POST an object to a route that answers nothing of interest."""
        await self._found("POST", path, {"json": body})

    async def _found(self, method: str, path: str, content: Mapping[str, Any]) -> bytes:
        status, data = await self._fetch(method, path, content)
        if status >= 500:
            raise PeerLostError(f"{self.name} answered {status}.")
        if status >= 400:
            raise PeerError(f"{self.name} answered {status} to {path}.")
        return data

    async def _fetch(self, method: str, path: str, content: Mapping[str, Any]) -> tuple[int, bytes]:
        seconds = self.answer_seconds
        with self._failures():
            try:
                async with asyncio.timeout(seconds):
                    return await self._fetch_from_any(method, path, content)
            except TimeoutError:
                raise PeerLostError(f"{self.name} did not answer within {seconds:g} seconds.") from None

    async def _fetch_from_any(self, method: str, path: str, content: Mapping[str, Any]) -> tuple[int, bytes]:
        import httpx  # noqa: PLC0415  # heavy, and most servers never need it

        for address in await addresses_of(self.target, self.rules.allowed_hosts):
            try:
                return await self._fetch_from(address, method, path, content)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        raise PeerLostError(f"{self.name} is out of reach.")

    async def _fetch_from(
        self, address: str, method: str, path: str, content: Mapping[str, Any]
    ) -> tuple[int, bytes]:
        import httpx  # noqa: PLC0415

        if self._client is None:
            raise PeerLostError(f"{self.name} is no longer in use.")
        request = self._client.build_request(
            method,
            httpx.URL(self.target.url(path)).copy_with(host=address),
            headers={"Host": self.target.netloc},
            extensions={"sni_hostname": self.target.host},
            **content,
        )
        answer = await self._client.send(request, stream=True)
        try:
            return answer.status_code, await self._body(answer)
        finally:
            await answer.aclose()
