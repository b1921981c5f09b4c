"""What a server under test has, and all kinds of requests that name it: the strategies of the fuzz test."""

import json

import attrs
from hypothesis import strategies as st

from tests.soak.corpus import BOMB, BROKEN_JSON, DEEP, NUMBERS, PIXEL, TEXTS, TRAVERSAL

PATHS = [
    "View/local/raw/x.png",
    "View/local/",
    "ViewSpecial/Preset/x",
    "ViewSpecial/Stable-Diffusion/alpha",
    "Output",
    "Audio/x.mp3",
]
PATHS += ["API/GetNewSession", "API/", "API/Login", "openapi.json", "Error/NoGetAPI", "favicon.ico", ""]
#: Who asks; in a request this stands for their session or token of the moment, since sessions end on the way.
OWNER, LOW, OWNER_TOKEN, LOW_TOKEN = "@owner", "@low", "@owner-token", "@low-token"
SESSIONS = [OWNER] * 8 + [LOW] * 6 + ["absent"] * 3 + ["0" * 40, "", None, 5]

nasty = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(NUMBERS),
    st.sampled_from(TEXTS),
    st.text(max_size=20),
    st.floats(allow_nan=True),
    st.recursive(
        st.sampled_from([None, 1, "x", "..", -5, 1e308]),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=8,
    ),
    st.sampled_from([[], {}, DEEP, [{}] * 3000, {"": {"": [None]}}]),
)


def mostly(usual, *rare):
    """Mostly the first strategy; `one_of` would give each leaf of the others the same weight."""
    return st.sampled_from([usual] * 2 * len(rare) + list(rare)).flatmap(lambda chosen: chosen)


@attrs.frozen
class Case:
    """One request: a route over HTTP or a socket with a body, or another path of the server."""

    how: str
    target: str
    body: bytes = b""
    method: str = "POST"
    headers: tuple[tuple[str, str], ...] = ()


@attrs.define
class World:
    """What the server under test has: its routes with their parameters, and values that fit these."""

    routes: dict[str, dict]
    known: dict[str, list]
    extras: dict[str, list[str]]

    def value(self, name: str, kind: str):
        """Values for a parameter: such as fit, such as might fit another, and such as fit nowhere."""
        plain = {
            "string": st.sampled_from(["a", "b", "alpha"]),
            "integer": st.integers(-2, 5),
            "boolean": st.booleans(),
        }.get(kind, st.just("1"))
        mine = self.known.get(name)
        fit = st.sampled_from(mine) if mine else plain
        anything = st.sampled_from([v for values in self.known.values() for v in values])
        return mostly(fit, plain, anything, nasty)

    def body(self, route: str, parameters: dict[str, str]):
        """Bodies for a route, mostly with all that it needs."""
        own = {name: self.value(name, kind) for name, kind in parameters.items()}
        more = [
            st.tuples(st.just(name), self.value(name, ""))
            for name in self.extras.get(route, [])
            if name not in own
        ]
        few = st.lists(st.one_of(more), min_size=1, max_size=3).map(dict) if more else st.just({})
        full = st.tuples(few, st.fixed_dictionaries(own)).map(lambda pair: pair[0] | pair[1])
        names = st.sampled_from([*own, "x", *TEXTS[:6]]) | st.text(max_size=5)
        partial = st.fixed_dictionaries({}, optional={**own, "session_id": nasty, "": nasty})
        return mostly(full, partial, st.dictionaries(names, nasty, max_size=6))

    def sent(self, body):
        """The bytes of a body, under a session that is one of ours, mostly."""

        def encode(pair):
            values, session = pair
            given = {} if session == "absent" else {"session_id": session}
            return json.dumps(given | values).encode()

        return st.tuples(body, st.sampled_from(SESSIONS)).map(encode)

    def cases(self):
        """All kinds of requests."""
        broken = st.sampled_from(BROKEN_JSON)
        routes = [
            st.builds(
                Case,
                st.just("socket" if facts["streams"] else "http"),
                st.just(name),
                mostly(self.sent(self.body(name, facts["parameters"])), broken),
                headers=headers,
            )
            for name, facts in self.routes.items()
        ]
        swapped = [
            st.builds(
                Case,
                st.just("http" if facts["streams"] else "socket"),
                st.just(name),
                self.sent(st.just({"images": 1, "model": "alpha"})),
            )
            for name, facts in self.routes.items()
        ]
        tails = st.sampled_from(
            ["", "/", "?preview=true", "%00", "%ff", "/..", *(f"/{t}" for t in TRAVERSAL)]
        )
        path = st.builds("".join, st.tuples(st.sampled_from(PATHS), tails))
        method = st.sampled_from(["GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
        paths = st.builds(Case, st.just("path"), path, st.just(b"{}"), method=method, headers=headers)
        return mostly(st.one_of(routes), st.one_of(swapped), paths)


def twice(values: list[str]) -> str:
    """A cookie header that says the same name again and again."""
    return "; ".join(f"swarm_token={value}" for value in values)


ids = st.sampled_from([OWNER, LOW, "0" * 40, "", "\xff", "x" * 5000])
tokens = st.sampled_from(
    [OWNER_TOKEN, LOW_TOKEN, "a.b.c", "...", "", "\xff.\xff.\xff", "6c6f63616c.0.0", "x" * 5000]
)
addresses = st.sampled_from(["1.2.3.4", "::1", "127.0.0.1, evil", "\xff", "," * 500])
header = st.one_of(
    st.tuples(st.just("x-session-id"), ids),
    st.tuples(st.just("cookie"), tokens.map(lambda token: f"swarm_token={token}")),
    st.tuples(st.just("cookie"), st.lists(tokens, min_size=2, max_size=3).map(twice)),
    st.tuples(st.just("authorization"), tokens.map(lambda token: f"Bearer {token or 0}")),
    st.tuples(st.sampled_from(["x-forwarded-for", "forwarded", "x-swarm-user_id", "user-agent"]), addresses),
)
headers = st.sampled_from([0, 0, 0, 1, 1, 2]).flatmap(
    lambda n: st.lists(header, min_size=n, max_size=n).map(tuple)
)


def look_around(client, routes: dict[str, dict]) -> World:
    """Gather what the server says that it has; *routes* is its route table."""
    params = client.post("ListT2IParams")["list"]
    user_settings = _ids(client.post("GetUserSettings")["settings"])
    known = {p["id"]: [p["default"], p["min"], p["max"], *(p["values"] or [])[:4]] for p in params}
    known |= {
        "session_id": [OWNER, LOW],
        "type_id": ["painter", "spare", "spare", "nope"],
        "backend_id": [0, 1, 2, "0"],
        "backend": ["0", "all", "1", "none", "comfyui"],
        "backendId": ["0", "1"],
        "new_id": [-1, 0, 3],
        "language": ["en", "de"],
        "keyType": ["civitai_api", "huggingface_api", "stability_api"],
        "subtype": ["Stable-Diffusion", "VAE", "LoRA", "Preset"],
        "preset": ["a", "b"],
        "editing": ["a", "b"],
        "title": ["a", "b"],
        "presets": [["a"], ["b", "a"], "a,b"],
        "param_map": [{"steps": "2"}, {"width": "64", "nope": "1"}, {p["id"]: "1" for p in params}],
        "settings": [{name: value} for name in user_settings for value in ("", "JPG", 5, None, "../../x")]
        + [{"roles": roles} for roles in (["guest"], ["owner"], [], "user", ["nope"], ["low", "user"])] * 20,
        "edits": [{"groups": {}, "params": {}}],
        "extra_metadata": [{"a": 1}],
        "preview_image": [PIXEL, BOMB],
        "model": ["alpha", "alpha.safetensors", "ALPHA"],
        "modelName": ["alpha", "alpha.safetensors"],
        "images": [1, "2"],
        "path": ["", "/"],
        "depth": [1, 2],
        "sortBy": ["Name", "DateCreated"],
        "theme": ["modern_dark", "solarized"],
        "installed_for": ["just_self"],
        "models": ["none", "", "nope"],
    }
    names = ["fuzz", "low", "Low ", "nobody", "newcomer", "another_one", "owner", "user", "guest"]
    known |= {
        "name": names,
        "username": names,
        "role": ["guest", "user", "low", "owner", "nope"],
        "password": ["long enough", "short", "0" * 64, "__swarmdoprehash:swarmclientpw:low:long enough"],
        "oldPassword": ["long enough", "wrong enough"],
        "newPassword": ["long enough"],
        "impersonateUser": ["low", "fuzz", "nobody"],
        "setup_token": ["0" * 32],
        "reason": ["a program"],
        "tokenId": ["0" * 32],
        "permissions": ["fundamental,basic_image_generation", "*", "nope", ""],
        "email": ["a@b.example", ""],
        "user": ["low", "fuzz"],
        "action": ["AdminAddUser"],
        "limit": [1, 1000],
    }
    generation = [p["id"] for p in params] + ["presets", "extra_metadata", "donotsave"]
    extras = dict.fromkeys(("GenerateText2Image", "GenerateText2ImageWS"), generation)
    extras |= {"AddNewPreset": ["param_map"], "ChangeUserSettings": ["settings"], "EditBackend": ["settings"]}
    extras |= {"SetParamEdits": ["edits"], "ExportUserPresets": ["titles"]}
    extras |= {"AdminChangeUserSettings": ["settings"]}
    extras |= {name: ["Stable-Diffusion", "LoRA"] for name in ("SetStarredModels", "SetPresetLinks")}
    return World(routes, known, extras)


def _ids(described: dict, prefix: str = "") -> list[str]:
    """The dotted ids of described settings."""
    return [
        found
        for name, one in described.items()
        for found in (_ids(one["value"], f"{prefix}{name}.") if one["type"] == "group" else [prefix + name])
    ]


def replaced(data: bytes, now: dict[str, str]) -> bytes:
    """The bytes of a request with the sessions and tokens of the moment."""
    for name in sorted(now, key=len, reverse=True):  # one name begins another
        data = data.replace(name.encode(), now[name].encode())
    return data


def is_text(body: bytes) -> bool:
    """Whether bytes can go into a text frame."""
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True
