"""WebSockets that lead where they were meant to. Imported when one is opened: the library takes time to load."""

from __future__ import annotations

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedOK, InvalidStatus, WebSocketException

__all__ = ["ClientConnection", "ConnectionClosedOK", "DirectConnect", "InvalidStatus", "WebSocketException"]


class DirectConnect(connect):
    """Connects, and follows no redirect."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Let the redirect be the error that it is."""
        return exc
