"""Models that roles hide: by the rule, and on a real server wherever a model can be named or seen."""

import json
from pathlib import Path

import attrs
import pytest

from swarmkernel import Limits, Services
from swarmkernel_models_api import Model
from swarmkernel_models_api.limits import by_roles, permits

from .conftest import write
from .test_routes import LOADER, picture, running

ROLES = Path(__file__).parents[1] / "t2i_api" / "roles.py"


@pytest.mark.parametrize(
    ("name", "white", "black", "expected"),
    [
        ("any/x.safetensors", (), (), True),
        ("Folder/x.safetensors", ("folder/",), (), True),
        ("folder/x.safetensors", ("FOLDER/X",), (), True),
        ("other/x.safetensors", ("folder/", "thing"), (), False),
        ("my/folder/x.safetensors", ("folder/",), (), False),
        ("folder/x.safetensors", ("folder/",), ("FOLDER/",), False),
        ("folder/x.safetensors", (), ("folder/x",), False),
        ("folder/y.safetensors", ("folder/",), ("folder/x",), True),
        ("folder/y.safetensors", ("folder\\Y",), (), True),
        ("folder/y.safetensors", (), (" /Folder\\ ",), False),
        ("x.safetensors", ("", " "), ("", "/"), True),
        ("STRASSE.safetensors", (), ("straße",), False),
    ],
)
def test_lists(name, white, black, expected):
    """Lists are prefixes in any letter case; the blacklist wins, and an empty whitelist allows everything."""
    assert expected == permits(name, white, black)


def test_rule_follows_the_roles():
    """The rule asks with each use; while accounts are not required it hides nothing."""

    @attrs.define
    class Roles:
        white: tuple[str, ...] = ("a",)
        black: tuple[str, ...] = ()

        def of(self, user_id):
            return {"model_whitelist": self.white, "model_blacklist": self.black}

    services, roles, model = Services(), Roles(), Model("x.safetensors", "VAE", Path(), "X")
    rule = by_roles(services)
    assert rule("ann", model)
    services.add(Limits, roles)
    assert not rule("ann", model)
    roles.white, roles.black = (), ("b",)
    assert rule("ann", model)
    roles.black = ("X",)
    assert not rule("ann", model)


@pytest.fixture(name="serve_roles")
def _serve_roles(swarm_dists, swarm_serve, tmp_path):
    """A server with two main models, a VAE and a LoRA, all but one hidden from Ann, and clients of Ann and Eve."""
    main = tmp_path / "data/Models/Stable-Diffusion"
    for name in ("open/a", "secret/b"):
        write(main / f"{name}.safetensors").with_suffix(".png").write_bytes(picture("PNG"))
    for folder in ("VAE", "Lora"):
        path = write(
            tmp_path / f"data/Models/{folder}/secret/c.safetensors", {"lora_te1_x.lora_up.weight": (1,)}
        )
        path.with_suffix(".png").write_bytes(picture("PNG"))
    (tmp_path / "roles.json").write_text(json.dumps({"ann": {"model_blacklist": ["Secret/"]}}))
    (tmp_path / "loads").write_text("")
    swarm_dists.add("loader", LOADER, requires=["swarmkernel-models-api"])
    swarm_dists.add("roles", ROLES.read_text(), requires=["swarmkernel"])
    disabled = ["t2i_api", "backends_torch", "backends_onnx", "backends_remote", "starter_model"]
    options = [option for name in disabled for option in ("--disable", name)]
    server = swarm_serve(*options, ROLES=str(tmp_path / "roles.json"), LOADS=str(tmp_path / "loads"))

    def client(name):
        client = server.client(login=False)
        client.session_id = client.raw("GetNewSession", headers={"X-Name": name}).json()["session_id"]
        return client

    ann, eve = client("ann"), client("eve")
    eve.post("AddNewBackend", type_id="loader")
    running(eve, 1)
    return ann, eve, tmp_path / "loads"


def test_hidden_is_missing(serve_roles):
    """Wherever a model can be named, listed, seen or chosen, a hidden one is answered like one that is not there."""
    ann, eve, loads = serve_roles

    def same(route, hidden, missing, **body):
        keys = [key for key, value in body.items() if value == "?"]
        told = [ann.post(route, **body | dict.fromkeys(keys, name)) for name in (hidden, missing)]
        assert told[1] == json.loads(json.dumps(told[0]).replace(hidden, missing))
        return told[0]

    names = [f["name"] for f in ann.post("ListModels", path="", depth=5, dataImages=True)["files"]]
    assert ["open/a.safetensors"] == names
    assert ["open"] == ann.post("ListModels", path="", depth=5)["folders"]
    assert ["open", "secret"] == eve.post("ListModels", path="", depth=5)["folders"]
    assert {"folders": [], "files": []} == same("ListModels", "secret", "secrex", path="?", depth=5)
    for kind in ("VAE", "LoRA"):
        assert {"folders": [], "files": []} == ann.post("ListModels", path="", depth=5, subtype=kind)
        assert 1 == len(eve.post("ListModels", path="", depth=5, subtype=kind)["files"])
        answer = same("DescribeModel", "secret/c", "secret/x", modelName="?", subtype=kind)
        assert "model_not_found" == answer["error_id"]
    for hidden, missing in {"secret/b.safetensors": "secret/x.safetensors", "SECRET/B": "SECRET/X"}.items():
        assert "model_not_found" == same("DescribeModel", hidden, missing, modelName="?")["error_id"]
        assert "model_not_found" == same("SelectModel", hidden, missing, model="?")["error_id"]
        assert ann.stream("SelectModelWS", model=missing) == json.loads(
            json.dumps(ann.stream("SelectModelWS", model=hidden)).replace(hidden, missing)
        )
    assert "" == loads.read_text()
    assert "model" in ann.post("DescribeModel", modelName="(None)")
    assert {"success": True} == eve.post("SelectModel", model="b")
    assert ["secret/b.safetensors"] == [m["name"] for m in eve.post("ListLoadedModels")["models"]]
    assert {"models": []} == ann.post("ListLoadedModels")
    assert {"success": True} == ann.post("SelectModel", model="a")


def test_hidden_previews(serve_roles):
    """The picture of a hidden model is answered like one that is not there, byte for byte; without a user none is."""
    ann, eve, _ = serve_roles

    def get(client, path, **headers):
        answer = client.http.get(f"/ViewSpecial/{path}", headers=headers)
        return answer.status_code, answer.content, answer.headers["content-type"]

    for path in ("Stable-Diffusion/secret/b.safetensors", "VAE/secret/c.safetensors", "LoRA/secret/c"):
        for who in ({"X-Name": "ann"}, {"X-Session-ID": ann.session_id}):
            hidden = get(ann, path, **who)
            assert 404 == hidden[0]
            assert hidden == get(ann, path.replace("/b", "/x").replace("/c", "/x"), **who)
        assert (200, "image/png") == get(eve, path, **{"X-Session-ID": eve.session_id})[::2]
        nobody = get(ann, path)
        assert (400, "invalid_user") == (nobody[0], json.loads(nobody[1])["error_id"])
        assert nobody == get(ann, "VAE/none", **{"X-Session-ID": "0" * 40})
    assert 200 == get(ann, "Stable-Diffusion/open/a.safetensors", **{"X-Session-ID": ann.session_id})[0]
