"""No request, whatever is in it and whoever sends it, costs the server more than an error in that request's own answer."""

import collections
import random
import time

import attrs
import httpx
import orjson
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.security.people import REQUIRED, People, routes_of
from tests.soak.world import LOW, LOW_TOKEN, OWNER, OWNER_TOKEN, Case, is_text, look_around, replaced

SMALL = {
    "SWARMKERNEL_T2I_API__MAX_IMAGES": "3",
    "SWARMKERNEL_T2I_API__MAX_SIDE": "600",
    "SWARMKERNEL_T2I_API__MAX_STEPS": "30",
    "SWARMKERNEL_SERVER__FIRST_MESSAGE_SECONDS": "2",
    "SWARMKERNEL_SERVER__BODY_SECONDS": "2",
}
PASSWORD = "long enough"
#: What the one with low rights may do.
FEW = ["fundamental", "fundamental_generate_tab_access", "read_user_settings", "edit_user_settings"]
FEW += ["basic_image_generation", "manage_presets"]


@attrs.define
class Everybody:
    """Who sends requests: nobody, one with low rights and an owner, or without accounts the local user twice."""

    server: object
    people: People | None
    now: dict[str, str] = attrs.field(factory=dict)
    names: dict[str, str] = attrs.field(factory=dict, init=False)
    watcher: object = attrs.field(init=False)
    http: httpx.Client = attrs.field(init=False)

    def __attrs_post_init__(self):
        self.http = httpx.Client(timeout=60)
        self.watcher = self.people.owner if self.people else self.server.client()
        for who in (OWNER, LOW):
            self.come_back(who)

    def come_back(self, who):
        """Get a session, after whatever has become of the user, their role, password and logins."""
        if self.people is None:
            client = self.server.client()
        else:
            client = self.log_in(who)
            self.now[OWNER_TOKEN if who == OWNER else LOW_TOKEN] = client.http.cookies["swarm_token"]
        self.now[who] = client.session_id
        client.close()

    def log_in(self, who):
        """Log in, as somebody new if too many have guessed at the old one's password."""
        role = "owner" if who == OWNER else self.people.role("low", FEW)
        while True:
            name = self.names.setdefault(who, "fuzz" if who == OWNER else "low")
            if name not in self.watcher.post("AdminListUsers")["users"]:
                self.people.done("AdminAddUser", name=name, password=PASSWORD, role=role)
            self.people.done("AdminChangeUserSettings", name=name, settings={"roles": [role]})
            self.people.done("AdminSetUserPassword", name=name, password=PASSWORD)
            client = self.server.client(login=False)
            if "error" not in client.raw("Login", {"username": name, "password": PASSWORD}).json():
                return client.login()
            self.names[who] += "x"

    def are_well(self):
        """The server still answers; whose session has ended gets another."""
        assert "backend_status" in self.watcher.post("GetCurrentStatus")
        for who in (OWNER, LOW):
            body = {"session_id": self.now[who]}
            if "backend_status" not in self.watcher.raw("GetCurrentStatus", body).json():
                self.come_back(who)


def call(everybody, case: Case) -> list[dict]:
    """Send a case; the JSON objects that came back, after the checks that hold for all of them."""
    case = attrs.evolve(
        case,
        body=replaced(case.body, everybody.now),
        headers=tuple((n, replaced(v.encode("latin-1"), everybody.now)) for n, v in case.headers),
    )
    if case.how == "socket":
        return _talk(everybody.server, case)
    path = case.target if case.how == "path" else f"API/{case.target}"
    headers = [("content-type", b"application/json"), *case.headers]
    url = f"{everybody.server.url}/{path}"
    response = everybody.http.request(case.method, url, content=case.body, headers=headers)
    everybody.http.cookies.clear()
    assert response.status_code < 500, response.text
    assert b"root:" not in response.content
    return [] if case.how == "path" else [orjson.loads(response.content)]


def _talk(server, case: Case) -> list[dict]:
    url = server.url.replace("http", "ws", 1)
    headers = [(name, value.decode("latin-1")) for name, value in case.headers]
    options = {"max_size": None, "compression": None, "proxy": None, "additional_headers": headers}
    options |= {"user_agent_header": None}
    with connect(f"{url}/API/{case.target}", **options) as ws:
        frames = []
        try:
            ws.send(case.body, text=is_text(case.body))
            while True:
                frames.append(orjson.loads(ws.recv(timeout=10)))
        except ConnectionClosed:
            pass
        assert ws.close_code in {1000, 4401}, ws.close_reason
    return frames


def restore(client) -> None:
    """Make the backends what they were, if a request changed them."""
    backends = client.post("ListBackends")
    zero = backends.get("0", {})
    same = zero.get("type") == "painter" and zero.get("enabled")
    if not same or len(backends) > 1:
        for number in backends:
            client.post("DeleteBackend", backend_id=int(number))
        fresh = client.post("AddNewBackend", type_id="painter")
        if fresh["id"] != 0:
            client.post("EditBackend", backend_id=fresh["id"], title="", settings={}, new_id=0)


COUNTS = {"accounts": (500, 10_000), "open": (100, 3000)}
FORMS = [
    pytest.param(mode, count, marks=[pytest.mark.soak] if number else [], id=f"{mode}-{count}")
    for mode, counts in COUNTS.items()
    for number, count in enumerate(counts)
]


@pytest.mark.parametrize(("mode", "count"), FORMS)
def test_any_request_gets_an_answer(paint, ready, no_complaint, tmp_path, mode, count):
    """Each of many odd requests is answered soon with JSON that is no server error, and the server works on."""
    accounts = {**REQUIRED, "SWARMKERNEL_ACCOUNTS__ALLOW_REGISTRATION": "true"} if mode == "accounts" else {}
    server = paint(wait=False, **SMALL, **accounts)
    everybody = Everybody(server, People(server) if accounts else None)
    client = ready(everybody.watcher)
    world = look_around(client, routes_of(server))
    assert len(world.routes) > 55
    number = 20261121 if count == COUNTS[mode][0] else random.SystemRandom().randrange(2**32)
    print(f"seed {number}")
    slowest, granted = [0.0], collections.Counter()

    def check(case):
        if case.target.startswith(("Generate", "Select")):
            ready(client)
        began = time.monotonic()
        answers = call(everybody, case)
        seconds = time.monotonic() - began
        slowest[0] = max(slowest[0], seconds)
        assert all(isinstance(answer, dict) for answer in answers), answers
        assert [] == [a for a in answers if a.get("error_id") in {"internal_error", "storage_failed"}]
        assert seconds < 10
        granted[case.target] += bool(answers) and not any("error" in answer for answer in answers)
        everybody.are_well()
        if "Backend" in case.target or "Install" in case.target:
            restore(client)
        no_complaint(server)

    limits = settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    began = time.monotonic()
    seed(number)(limits(given(world.cases())(check)))()

    everybody.http.close()
    assert 0 == server.stop()
    no_complaint(server)
    assert {"data", "dists"} == {entry.name for entry in tmp_path.iterdir()}
    refused = [name for name in world.routes if not granted[name]]
    print(f"slowest {slowest[0]:.2f} s of {time.monotonic() - began:.0f} s; never granted: {refused}")
    assert len(refused) < len(world.routes) * max(0.1, 300 / count), granted
