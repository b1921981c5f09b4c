"""Login tokens: their text, what is kept of it, and how they end."""

import re
from hashlib import sha256

import pytest

from swarmkernel import Collection, MemoryStore, StoreError
from swarmkernel_accounts import AccountsSettings, Token, Tokens
from swarmkernel_accounts.changes import Changes

DAY = 24 * 3600


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self):
        self.now = 1_000_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture(name="clock")
def _clock():
    return Clock()


@pytest.fixture(name="store")
def _store():
    return MemoryStore()


@pytest.fixture(name="opened")
def _opened(store, clock):
    """Open the tokens of the store as another process would; keywords are settings."""

    def opened(**settings):
        tokens = Tokens.of(store, Changes.of(store), AccountsSettings(**settings))
        tokens._now = clock
        return tokens

    return opened


@pytest.fixture(name="tokens")
def _tokens(opened):
    return opened()


async def make(tokens, user="bob", *, is_login=True, agent="Firefox"):
    """A token of a user."""
    return await tokens.create(user, address="1.2.3.4", user_agent=agent, is_login=is_login)


async def test_text(tokens):
    """A token's text is the user's id in hexadecimal, the token's id and a secret of 128 bits, and proves the user."""
    token, text = await make(tokens)
    name, token_id, secret = text.split(".")

    assert (b"bob".hex(), token.id) == (name, token_id)
    assert re.fullmatch("[0-9a-f]{32}", token_id)
    assert re.fullmatch("[0-9a-f]{32}", secret)
    assert token == await tokens.verify(text)
    assert ("bob", "1.2.3.4", "Firefox", True) == (
        token.user_id,
        token.address,
        token.user_agent,
        token.is_login,
    )


async def test_secrets_differ(tokens):
    """No two tokens have an id or a secret in common."""
    texts = [(await make(tokens))[1] for _ in range(50)]

    assert 50 == len({t.split(".")[1] for t in texts}) == len({t.split(".")[2] for t in texts})


async def test_the_secret_is_not_kept(tokens, store):
    """The store and the value hold the secret's SHA-256, and its text is nowhere."""
    token, text = await make(tokens)
    secret = text.split(".")[2]
    rows = await store.scan_rows("accounts_tokens", "")

    assert sha256(secret.encode()).hexdigest() == token.secret
    assert secret not in repr(rows)
    assert token.secret not in repr(token)


def changed(text, part, to=None):
    """A token's text with one of its parts replaced."""
    parts = text.split(".")
    parts[part] = parts[part][::-1] if to is None else to
    return ".".join(parts)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: changed(text, 0, b"eve".hex()),
        lambda text: changed(text, 0, "zz"),
        lambda text: changed(text, 0, "ff"),
        lambda text: changed(text, 0, ""),
        lambda text: changed(text, 1),
        lambda text: changed(text, 1, ""),
        lambda text: changed(text, 2),
        lambda text: changed(text, 2, ""),
        lambda text: changed(text, 2, sha256(text.split(".")[2].encode()).hexdigest()),
        lambda text: text + ".x",
        lambda text: text[:-1],
        lambda text: text + "0",
        lambda text: text + "\x80",
        lambda text: text.rpartition(".")[0],
        lambda text: text + "." * 1000,
        lambda _: "",
        lambda _: "..",
        lambda _: "\0.\0.\0\0\0\0\0\0\0",
    ],
)
async def test_spoiled_texts(tokens, spoil):
    """A text that differs in any part proves nobody."""
    _, text = await make(tokens)

    assert await tokens.verify(spoil(text)) is None
    assert await tokens.verify(text) is not None


async def test_a_wrong_secret_is_logged(tokens, caplog):
    """A known id with a wrong secret is worth a line of the log, which holds neither secret."""
    token, text = await make(tokens)
    await tokens.verify(changed(text, 2, "a" * 32))

    assert token.id in caplog.text
    assert "a" * 32 not in caplog.text
    assert text.split(".")[2] not in caplog.text


@pytest.mark.parametrize(("is_login", "days"), [(True, 30), (False, 365)])
async def test_expiry(tokens, clock, is_login, days):
    """A token ends after so long without use, and each use begins that time anew."""
    token, text = await make(tokens, is_login=is_login)
    for _ in range(3):
        clock.now += days * DAY - 1
        assert await tokens.verify(text)
    clock.now += days * DAY + 1

    assert await tokens.verify(text) is None
    assert not tokens.exists("bob", token.id)


async def test_purge(tokens, opened, clock):
    """What ended for want of use is forgotten in the store, and the rest is kept."""
    old, _ = await make(tokens)
    kept, _ = await make(tokens, is_login=False)
    clock.now += 31 * DAY
    new, _ = await make(tokens)
    await tokens.purge()
    other = opened()
    await other.reload()

    assert [kept.id, new.id] == [t.id for t in tokens.of_user("bob")]
    assert [kept.id, new.id] == [t.id for t in other.of_user("bob")]
    assert old.id not in {kept.id, new.id}


async def test_use_is_written_hourly(tokens, store, clock):
    """The time of last use is stored, but at most once an hour."""
    token, text = await make(tokens)
    rows = store.collection("accounts_tokens", Token)
    stored = []
    for _ in range(4):
        clock.now += 1300
        await tokens.verify(text)
        stored.append((await rows.get(f"bob/{token.id}")).last_active - token.created)

    assert [0, 0, 3900, 3900] == stored


async def test_use_while_the_store_cannot_write(tokens, clock, monkeypatch):
    """A token is good although its use cannot be written, on a full disk say."""

    async def full(*_, **__):
        raise StoreError("disk full")

    _, text = await make(tokens)
    monkeypatch.setattr(Collection, "update", full)
    clock.now += 4000

    assert await tokens.verify(text)


async def test_the_least_used_give_way(opened, clock):
    """Beyond a user's share, the tokens that were not used for longest end, and others' do not."""
    tokens = opened(tokens_per_user=3)
    eves, _ = await make(tokens, "eve")
    made = []
    for _ in range(3):
        made.append(await make(tokens))
        clock.now += 4000
    await tokens.verify(made[0][1])
    last, _ = await make(tokens)

    assert {made[0][0].id, made[2][0].id, last.id} == {t.id for t in tokens.of_user("bob")}
    assert tokens.exists("eve", eves.id)


async def test_revoke(tokens, store):
    """A revoked token is gone from memory and from the store; nobody revokes another user's."""
    token, text = await make(tokens)
    kept, _ = await make(tokens)

    assert not await tokens.revoke("eve", token.id)
    assert tokens.exists("bob", token.id)
    assert await tokens.revoke("bob", token.id)
    assert not await tokens.revoke("bob", token.id)
    assert not tokens.exists("bob", token.id)
    assert await tokens.verify(text) is None
    assert [f"bob/{kept.id}"] == [key for key, _ in await store.scan_rows("accounts_tokens", "")]


async def test_revoke_all(tokens):
    """All of a user's tokens end but the named one; without a name, all."""
    made = [(await make(tokens))[0].id for _ in range(3)]
    eves, _ = await make(tokens, "eve")
    await tokens.revoke_all("bob", but=made[1])
    assert [made[1]] == [t.id for t in tokens.of_user("bob")]
    await tokens.revoke_all("bob")
    assert [] == tokens.of_user("bob")
    assert tokens.exists("eve", eves.id)


async def test_another_process(tokens, opened):
    """What one process makes is good in another at once, and what it revokes is not once that has looked."""
    other = opened()
    token, text = await make(other)
    assert token == await tokens.verify(text)
    await other.revoke_all("bob")
    await tokens._changes.refresh()
    assert not tokens.exists("bob", token.id)


async def test_revoking_what_another_process_made(tokens, opened):
    """All tokens end also when another process has just made one that is not in memory yet."""
    token, text = await make(opened())
    await tokens.revoke_all("bob")

    assert await tokens.verify(text) is None
    assert await opened().verify(text) is None
    assert not tokens.exists("bob", token.id)


async def test_nothing_is_made_when_the_store_fails(tokens, monkeypatch):
    """A token that could not be stored does not exist in memory either."""

    async def full(*_, **__):
        raise StoreError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(MemoryStore, "write_row", full)
        with pytest.raises(StoreError):
            await make(tokens)
    assert [] == tokens.of_user("bob")


async def test_listeners_hear(tokens):
    """Who acts on changes hears of each token that is made or revoked, afterwards."""
    heard = []

    async def listen():
        heard.append(len(tokens.of_user("bob")))

    tokens._changes.listen(listen)
    token, _ = await make(tokens)
    await tokens.revoke("bob", token.id)

    assert [1, 0] == heard


@pytest.mark.parametrize(
    ("expected", "agent"), [("a b", "a\nb\x1b"), ("x" * 500, "x" * 9000), ("", ""), ("é", "é\u202e")]
)
async def test_notes(tokens, expected, agent):
    """What a client says of itself is kept on one line, without control characters, cut."""
    token, _ = await make(tokens, agent=agent)

    assert expected == token.user_agent


async def test_sessions_keep_their_token(tokens, opened, clock):
    """A token whose sessions are in use does not end for want of use, in this process or the next."""
    token, text = await make(tokens)
    for _ in range(3):
        clock.now += 20 * DAY
        assert tokens.use("bob", token.id)
        await tokens.purge()
    other = opened()
    await other.reload()

    assert token.id == (await other.verify(text)).id
