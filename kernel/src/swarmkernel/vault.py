"""Secrets at rest: texts that are of no use to who finds the database alone."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from swarmkernel.errors import StoreError

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

FILE_NAME = "secret.key"
PREFIX = "enc1:"


@attrs.frozen(slots=False)
class Vault:
    """
    Seals and opens texts with Fernet (AES-128-CBC and HMAC-SHA256), under a key made from *secret*.

    Without a *secret* the key is a random one in *file*, which is made when it is first needed, with mode 0600.
    """

    secret: str = attrs.field(repr=False)
    file: Path

    def seal(self, text: str) -> str:
        """*text*, unreadable without the key."""
        return PREFIX + self._fernet.encrypt(text.encode()).decode()

    def open(self, text: str) -> str:
        """What was sealed; a text that never was comes back as it is. StoreError if the key does not fit."""
        from cryptography.fernet import InvalidToken  # noqa: PLC0415

        if not text.startswith(PREFIX):
            return text
        try:
            return self._fernet.decrypt(text.removeprefix(PREFIX)).decode()
        except InvalidToken:
            raise StoreError(
                f"a stored secret cannot be read with this key; put back the {FILE_NAME} or secret_key that it was "
                "stored with, or set the secret again"
            ) from None

    @cached_property
    def _fernet(self) -> Fernet:
        from cryptography.fernet import Fernet  # noqa: PLC0415  # heavy, and many servers keep no secret

        material = self.secret.encode() or self._from_file()
        return Fernet(base64.urlsafe_b64encode(hashlib.sha256(material).digest()))

    def _from_file(self) -> bytes:
        try:
            self._make()
            return self.file.read_bytes()
        except OSError as exc:
            raise StoreError(
                f"the key for secrets, {self.file.name}, cannot be used: {exc.strerror}"
            ) from None

    def _make(self) -> None:
        """Write the key file whole or not at all; whoever comes second uses the first one's."""
        if self.file.exists():
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        draft = self.file.with_name(f".{FILE_NAME}.{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(secrets.token_bytes(32))
            out.flush()
            os.fsync(out.fileno())
        try:
            os.link(draft, self.file)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
