"""Two servers of which one goes away, refuses, or has the other one for a backend too."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

from two_servers import Chain, has_run, wait_for

from swarmkernel.testing import Client

ONE = {"images": 1, "prompt": "a cat", "width": 64, "height": 64, "steps": 4, "seed": 5}
REQUIRED = {"SWARMKERNEL_ACCOUNTS__REQUIRED": "true"}


def test_a_killed_worker_comes_back(own_chain, serve):
    """A picture whose worker is killed waits, and is made when the worker is there again; all by itself."""
    chain = own_chain
    number = chain.connect()
    client, port = chain.ready(), chain.worker.server.url.rpartition(":")[2]
    answers = []
    thread = threading.Thread(
        target=lambda: answers.append(
            client.post("GenerateText2Image", **{**ONE, "prompt": "slow", "steps": 60})
        )
    )
    thread.start()
    wait_for(lambda: chain.worker.lines("begin"))
    chain.worker.server.kill()
    wait_for(lambda: chain.backends(id=number, status="errored"))
    wait_for(lambda: chain.mirrors(status="errored"))
    old = chain.worker.server
    serve(old.data_dir, *old.args, "--port", port, **old.env)
    thread.join(60)
    assert 1 == len(answers[0].get("images", ())), answers
    assert 1 == len(chain.mirrors(status="running"))
    assert chain.backends(id=number, status="running")


def test_idle(own_chain):
    """With AllowIdle a lost worker shows as idle, here and for its children, and what is asked meanwhile is told so."""
    chain = own_chain
    number = chain.connect(AllowIdle=True)
    chain.ready()
    os.kill(chain.worker.server.process.pid, signal.SIGKILL)
    wait_for(lambda: chain.backends(id=number, status="idle") and chain.mirrors(status="idle"))


def test_a_worker_that_is_not_there_yet(own_chain):
    """A backend whose server is started later finds it by itself."""
    chain = own_chain
    old, port = chain.worker.server, chain.worker.server.url.rpartition(":")[2]
    old.kill()
    number = chain.connect()
    wait_for(lambda: chain.backends(id=number, status="errored"))
    old.args += ["--port", port]
    old.start()
    wait_for(lambda: has_run(chain.worker))
    wait_for(lambda: chain.mirrors(status="running"))


def test_itself(start_front):
    """A server that is given its own address says so, and does not become its own backend."""
    front = start_front()
    client = front.client()
    number = client.post("AddNewBackend", type_id="swarmswarmbackend")["id"]
    client.post("EditBackend", backend_id=number, title="", settings={"Address": front.url})
    front.wait_for_log("leads to this server itself")
    assert ["errored"] == wait_for(
        lambda: [
            each["status"]
            for each in client.post("ListBackends", nonreal=True).values()
            if each["status"] == "errored"
        ]
    )


def run(worker, *command: str, said: str = "") -> str:
    """What a command about users prints."""
    done = subprocess.run(
        [sys.executable, "-m", "swarmkernel", *command, "--data-dir", str(worker.data_dir)],
        env={**os.environ, **worker.env, **REQUIRED},
        input=said,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def with_an_owner(server) -> str:
    """Have a server start again with accounts; a token of its owner."""
    server.stop()
    run(server, "users", "add", "ann", "--role", "owner", "--password-stdin", said="correct horse battery\n")
    token = run(server, "tokens", "create", "ann", "--reason", "chain").split()[-1]
    server.env = {**server.env, **REQUIRED}
    server.start()
    return token


def test_credentials(start_worker, start_front):
    """A worker with accounts refuses a wrong token and works with the right one; neither is told, whatever the log level."""
    worker = start_worker()
    token = with_an_owner(worker.server)
    chain = Chain(start_front(SWARMKERNEL_SERVER__LOG_LEVEL="DEBUG"), worker)
    number = chain.connect(AuthorizationHeader="Bearer wrong-secret", OtherHeaders="X-Key: other-secret")
    wait_for(lambda: chain.backends(id=number, status="errored"))
    client = chain.front.client()
    client.post(
        "EditBackend", backend_id=number, title="far", settings={"AuthorizationHeader": f"Bearer {token}"}
    )
    assert 1 == len(chain.ready().post("GenerateText2Image", **ONE)["images"])
    assert any("DEBUG" in line for line in chain.front.log)
    shown = json.dumps([chain.backends(), client.post("ListBackendTypes")])
    for secret in (token, "wrong-secret"):
        assert secret not in shown
    for secret in (token, "wrong-secret", "other-secret"):
        assert not [line for line in chain.front.log if secret in line]


def test_private_addresses_with_accounts(start_front):
    """With accounts a backend at a private address is refused unless the operator lists it, and the text says how."""
    front = start_front()
    token = with_an_owner(front)

    def shown() -> dict:
        client = Client(front.url)
        client.http.headers["Authorization"] = f"Bearer {token}"
        client.login()
        found = client.post("ListBackends", nonreal=True)
        if not found:
            number = client.post("AddNewBackend", type_id="swarmswarmbackend")["id"]
            settings = {"Address": "http://127.0.0.1:9"}
            client.post("EditBackend", backend_id=number, title="", settings=settings)
        client.close()
        return next(iter(found.values()), {})

    wait_for(lambda: shown().get("status") == "errored")
    front.wait_for_log(r'set allowed_hosts = \["127.0.0.1"\] under \[backends_remote\]')
    front.stop()
    (front.data_dir / "swarmkernel.toml").write_text('[backends_remote]\nallowed_hosts = ["127.0.0.1"]\n')
    front.start()
    wait_for(lambda: shown().get("status") == "errored")
    front.wait_for_log("is out of reach")


def test_each_has_the_other(worker_in, tmp_path):
    """Two servers that have each other for a backend each use the other's own backend, once, and after a restart too."""
    one, two = (worker_in(tmp_path / name, models=("alpha",), last=False) for name in ("one", "two"))
    chains = [Chain(one.server, two), Chain(two.server, one)]
    for chain in chains:
        chain.connect()
    for chain in chains:
        chain.ready()
    time.sleep(6)
    assert [1, 1] == [len(chain.mirrors()) for chain in chains]
    assert [3, 3] == [len(chain.backends()) for chain in chains]
    one.server.args += ["--port", one.server.url.rpartition(":")[2]]
    one.server.kill()
    one.server.start()
    now = one.server.client().post("GetNewSession")["server_id"]
    wait_for(lambda: [[now]] == [mirror["via"] for mirror in chains[1].mirrors(status="running")])
    time.sleep(6)
    assert [1, 1] == [len(chain.mirrors()) for chain in chains]
