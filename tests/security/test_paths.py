"""No path of any route of files leads out of its folder, on the running server, with canaries all around."""

import pytest

from tests.plugins.t2i_api_outputs.test_view import VECTORS
from tests.security.raw import keep_alive

CANARY = b"canary: nobody may read this"
#: Where canaries lie, below the folder that holds the data folder, and under which names.
PLACES = (".", "data", "data/Output", "data/Outputs", "data/Output/localby", "data/Audios", "data/Models")
PLACES += ("data/Models/Stable-Diffusion2", "data/Models/VAE", "outside")
NAMES = ("canary.txt", "canary.mp3", "canary.jpg", "canary.png", "canary.preview.png", "canary.safetensors")
#: Routes of files, and what a file would have to be called there.
ROUTES = {
    "/View/local/": "canary.txt",
    "/View/": "canary.txt",
    "/Output/": "canary.txt",
    "/Audio/": "canary.mp3",
    "/ViewSpecial/": "canary.jpg",
    "/ViewSpecial/Preset/": "canary.jpg",
    "/ViewSpecial/Stable-Diffusion/": "canary",
    "/ViewSpecial/Wildcards/": "canary.txt",
}
#: More, for the routes that the existing vectors were not made for.
MORE = ("local/../../canary.txt", "LOCAL/../canary.txt", "localby/../canary.txt", "Preset/../../canary.txt")
MORE += ("swarmkernel.toml", "../swarmkernel.toml", "../secret.key", "%2e%2e/secret.key", "../../secret.key")
MORE += ("/proc/self/environ", "../../../../../../../proc/self/environ", "%2e%2e/" * 12 + "etc/passwd")


@pytest.fixture(name="server", scope="module")
def _server(start, tmp_path_factory):
    """A server with canaries around everything that it serves, and links in everything that lead to them."""
    home = tmp_path_factory.mktemp("home")
    served = [home / "data" / place for place in ("Output/local", "Audio", "Models/Stable-Diffusion")]
    for folder in served:
        folder.mkdir(parents=True)
        (folder / "real.mp3").write_bytes(b"ID3")
    for place in PLACES:
        (home / place).mkdir(parents=True, exist_ok=True)
        for name in NAMES:
            (home / place / name).write_bytes(CANARY)
    for folder in served:
        for name in NAMES:
            (folder / f"link{name.removeprefix('canary')}").symlink_to(home / "outside" / name)
        (folder / "linked").symlink_to(home / "outside")
        (folder / "up").symlink_to("..")
        (folder / "loop").symlink_to("loop")
    return start(data_dir=home / "data")


@pytest.mark.parametrize("route", ROUTES)
def test_nothing_outside_is_ever_served(server, route):
    """Over 700 ways out of each folder end in an error of ours: never 200, never 5xx, never a byte of a canary."""
    assert len(VECTORS) > 700
    wrong = {}
    with keep_alive(server) as ask:
        for vector in (*VECTORS, *MORE):
            target = (route + vector.replace("canary.txt", ROUTES[route])).encode().replace(b" ", b"%20")
            reply = ask(target)
            if not 300 <= reply.status < 500 or CANARY in reply.body or reply.all("x-injected"):
                wrong[target] = reply
            if any("evil" in to or "canary" in to for to in reply.all("location")):
                assert all(to.startswith(f"{server.url}{route.rstrip('/')}") for to in reply.all("location"))
    assert {} == wrong


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("route", ["/View/local/", "/Output/", "/Audio/", "/ViewSpecial/Preset/"])
def test_files_are_only_read(server, route, method):
    """No method but GET and HEAD does anything to a file."""
    with keep_alive(server) as ask:
        for name in ("real.mp3", "new.txt", "../canary.txt"):
            assert ask((route + name).encode(), method).status in {400, 404, 405}
    assert b"ID3" == (server.data_dir / "Output/local/real.mp3").read_bytes()
    assert CANARY == (server.data_dir / "Output/canary.txt").read_bytes()


@pytest.mark.parametrize("name", ["link.txt", "link.mp3", "link.png", "link.jpg", "linked/canary.txt"])
def test_links_are_not_followed(server, name):
    """A symbolic link to the outside, to a file or a folder, is as good as missing."""
    with keep_alive(server) as ask:
        for route in ("/View/local/", "/Output/", "/Audio/", "/ViewSpecial/Stable-Diffusion/"):
            for target in (name, name.replace("canary.txt", "canary.mp3")):
                reply = ask((route + target).encode())
                assert (404, False) == (reply.status, CANARY in reply.body), (route, target)


def test_what_is_inside_is_served(server):
    """The same folders do serve what lies in them, so that the refusals mean something."""
    with keep_alive(server) as ask:
        for route in ("/View/local/", "/Output/", "/Audio/"):
            assert (200, b"ID3") == ((reply := ask(route.encode() + b"real.mp3")).status, reply.body)
