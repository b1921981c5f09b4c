"""The plugin's table in the settings file."""

import attrs


@attrs.frozen
class AccountsSettings:
    """
    The table ``[accounts]``.

    *required*: everybody has to log in; otherwise everybody is the owner. *allow_login*: by password.
    *default_role*: of those who register themselves. *trust_localhost*: whoever calls from this machine is the owner;
    it has no effect while the server listens on another address. *token_days* and *made_token_days*: so long without
    use ends a token of a login, and one of `CreateAuthToken`. The ``logins_...`` and *failed_logins* count attempts
    per minute: of an address (of IPv6 a /64), its network (/24 or /48), a user name, and failures of everybody.
    *hash_threads* passwords are checked at a time, *hash_queue* more may wait.
    """

    required: bool = False
    allow_login: bool = True
    allow_registration: bool = False
    default_role: str = "user"
    trust_localhost: bool = False
    token_days: int = 30
    made_token_days: int = 365
    tokens_per_user: int = 100
    logins_per_address: int = 5
    logins_per_network: int = 20
    logins_per_name: int = 15
    failed_logins: int = 50
    hash_threads: int = 2
    hash_queue: int = 20
