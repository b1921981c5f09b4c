"""Fetching one file over the network, from a server that may lie, stall or lead astray."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from swarmkernel import VERSION
from swarmkernel_models_api.addresses import addresses_of, check_url
from swarmkernel_models_api.arriving import Arriving
from swarmkernel_models_api.errors import FetchError
from swarmkernel_models_api.headers import header_problem

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

_BLOCK: Final = 1024 * 1024
_REPORT_SECONDS: Final = 0.5
_GIB: Final = 1024**3


@attrs.frozen
class Source:
    """
    Where a file comes from, and what is known of it.

    *is_own* says that the operator named the address, so that it may be plain http and on a private network.
    """

    url: str
    sha256: str | None = None
    size: int | None = None
    is_own: bool = False


@attrs.frozen
class Bounds:
    """How much a fetch may take. *stall_seconds* is the time that a server has for its answer and for each MiB."""

    max_bytes: int = 64 * _GIB
    stall_seconds: float = 60.0
    seconds: float = 12 * 3600.0
    redirects: int = 3
    spare_bytes: int = 2 * _GIB
    spare_fraction: float = 0.05


@attrs.frozen
class Progress:
    """Bytes so far, bytes in all (0: not known), and bytes per second of late."""

    done: int
    total: int
    per_second: int


async def fetch(
    source: Source,
    target: Path,
    bounds: Bounds | None = None,
    *,
    problem_of: Callable[[Path], str | None] = header_problem,
) -> AsyncGenerator[Progress]:
    """
    Fetch a safetensors file to *target*, which is there whole or not at all; progress about twice a second.

    *problem_of* says, in a thread, what is wrong with a file that came.

    FetchError says what went wrong. Whoever stops listening ends the fetch, and must close this generator.
    """
    bounds = bounds or Bounds()
    async with _client() as client, _answer(client, source, bounds) as answer:
        total = _announced(answer, source, bounds)
        async with (
            _arriving(target, total, bounds) as file,
            aclosing(_receive(answer, file, total, bounds)) as progresses,
        ):
            async for progress in progresses:
                yield progress
            await asyncio.to_thread(file.keep, source.sha256, source.size, problem_of)


@asynccontextmanager
async def _client() -> AsyncIterator[httpx.AsyncClient]:
    """A client without proxies, cookies, redirects and compression; loading it and the certificates takes time."""

    def made() -> httpx.AsyncClient:
        import httpx  # noqa: PLC0415  # heavy, and most servers never need it

        return httpx.AsyncClient(
            verify=httpx.create_ssl_context(),
            trust_env=False,
            timeout=None,  # noqa: S113  # every wait here has its own
            headers={"Accept-Encoding": "identity", "User-Agent": f"SwarmKernel/{VERSION}"},
        )

    async with await asyncio.to_thread(made) as client:
        yield client


@asynccontextmanager
async def _answer(client: httpx.AsyncClient, source: Source, bounds: Bounds) -> AsyncIterator[httpx.Response]:
    """The answer that the source leads to, its body not read yet."""
    import httpx  # noqa: PLC0415

    try:
        url = start = httpx.URL(source.url)
        for _ in range(bounds.redirects + 1):
            answer = await _ask(client, url, start, bounds, is_own=source.is_own)
            async with contextlib.AsyncExitStack() as stack:
                stack.push_async_callback(answer.aclose)
                if not answer.has_redirect_location:
                    yield answer
                    return
                url = url.join(answer.headers["location"])
        raise FetchError(f"It leads on and on: more than {bounds.redirects} redirects.")
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        log.warning("fetching a model failed: %r", exc)
        raise FetchError("The connection failed or the server's answer was malformed.") from exc


async def _ask(
    client: httpx.AsyncClient, url: httpx.URL, start: httpx.URL, bounds: Bounds, *, is_own: bool
) -> httpx.Response:
    """The answer of one address, connected to by IP so that its name cannot come to mean another."""
    import httpx  # noqa: PLC0415

    may_be_private = check_url(url, start, is_own=is_own)
    for address in await addresses_of(url, may_be_private=may_be_private):
        request = client.build_request(
            "GET",
            url.copy_with(host=address, fragment=None),
            headers={"Host": url.netloc.decode("ascii")},
            extensions={"sni_hostname": url.raw_host.decode("ascii")},
        )
        try:
            async with asyncio.timeout(bounds.stall_seconds):
                return await client.send(request, stream=True)
        except httpx.ConnectError as exc:
            log.info("%s at %s: %s", url.host, address, exc)
        except TimeoutError:
            raise FetchError(f"No answer came within {bounds.stall_seconds:g} seconds.") from None
    raise FetchError(f"No connection to {url.host[:100]} could be made.")


def _announced(answer: httpx.Response, source: Source, bounds: Bounds) -> int:
    """How many bytes will come, as far as the answer or the source say so; FetchError if they must not."""
    if answer.status_code != 200:
        raise FetchError(f"The server answered {answer.status_code}.")
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise FetchError("The server sent it compressed, which was not asked for.")
    length = answer.headers.get("content-length", "")
    total = int(length) if length.isdecimal() and len(length) < 20 else source.size or 0
    if source.size is not None and total != source.size:
        raise FetchError(f"It has {total} bytes and should have {source.size}.")
    if total > bounds.max_bytes:
        raise FetchError(f"It is too large: {total} bytes, and at most {bounds.max_bytes} are taken.")
    return total


@asynccontextmanager
async def _arriving(target: Path, total: int, bounds: Bounds) -> AsyncIterator[Arriving]:
    try:
        file = await asyncio.to_thread(Arriving.begin, target, bounds.spare_bytes, bounds.spare_fraction)
        try:
            await asyncio.to_thread(file.require_room, total)
            yield file
        finally:
            await asyncio.to_thread(file.close)
    except OSError as exc:
        raise FetchError(f"It could not be written: {exc.strerror}.") from exc


async def _receive(
    answer: httpx.Response, file: Arriving, total: int, bounds: Bounds
) -> AsyncGenerator[Progress]:
    """Write the body down as it comes."""
    now = asyncio.get_running_loop().time
    end, reported, before = now() + bounds.seconds, now(), 0
    limit = total or bounds.max_bytes
    async with aclosing(answer.aiter_raw(_BLOCK)) as blocks:  # type: ignore[type-var]
        while block := await _next(blocks, min(bounds.stall_seconds, end - now())):
            if file.size + len(block) > limit:
                raise FetchError(f"More came than was announced: over {limit} bytes.")
            await asyncio.to_thread(file.write, block)
            if (passed := now() - reported) >= _REPORT_SECONDS:
                yield Progress(file.size, total, int((file.size - before) / passed))
                reported, before = now(), file.size
    yield Progress(file.size, total, int((file.size - before) / max(now() - reported, 0.001)))


async def _next(blocks: AsyncIterator[bytes], seconds: float) -> bytes:
    """The next block, or nothing at the end."""
    try:
        async with asyncio.timeout(seconds):
            return await anext(blocks, b"")
    except TimeoutError:
        raise FetchError("It came too slowly.") from None
