"""The server ends when told to, whatever is open."""

import json
import signal
import threading
import time

import pytest
from websockets.exceptions import ConnectionClosed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ends_with_sockets_open(probe, number):
    """With WebSockets open and one busy, the signal ends the process with 0, and the clients are told 1012."""
    server = probe(SWARMKERNEL_SERVER__DRAIN_SECONDS="0.5")
    client = server.client()
    with client.socket("ForeverWS") as busy, client.socket("ChatWS") as waiting:
        assert {"tick": True} == json.loads(busy.recv())
        server.process.send_signal(number)

        codes = []
        for ws in (busy, waiting):
            with pytest.raises(ConnectionClosed):
                list(iter(lambda ws=ws: ws.recv(timeout=10), None))
            codes.append(ws.close_code)
        assert [1012, 1012] == codes
        assert 0 == server.process.wait(15)


def test_running_requests_end(probe):
    """A request that runs when the server is told to stop still gets its answer; new ones are refused."""
    server = probe(SWARMKERNEL_SERVER__DRAIN_SECONDS="10")
    client, other = server.client(), server.client()
    answers = []
    thread = threading.Thread(target=lambda: answers.append(client.post("Slow", seconds=1.5)))
    thread.start()
    time.sleep(0.4)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)

    assert 503 == other.raw("Echo", {"session_id": other.session_id, "text": ""}).status_code
    thread.join(10)
    assert [{"slept": 1.5}] == answers
    assert 0 == server.process.wait(10)


def test_a_stuck_request_does_not_keep_the_server(probe):
    """A request that outlasts the limit does not stop the server from ending."""
    server = probe(SWARMKERNEL_SERVER__DRAIN_SECONDS="0.2")
    client = server.client()
    thread = threading.Thread(target=lambda: _ignore(client, seconds=60), daemon=True)
    thread.start()
    time.sleep(0.4)

    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(20)

    assert time.monotonic() - began < 18


def test_second_signal_ends_at_once(probe):
    """A second signal does not wait, unless it comes together with the first."""
    server = probe(SWARMKERNEL_SERVER__DRAIN_SECONDS="60")
    client = server.client()
    threading.Thread(target=lambda: _ignore(client, seconds=30), daemon=True).start()
    time.sleep(0.4)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(1.2)
    assert server.process.poll() is None
    server.process.send_signal(signal.SIGTERM)

    assert 1 == server.process.wait(5)


def test_port_in_use(probe):
    """A port that is taken ends the start with 98 and says what to do."""
    import subprocess
    import sys

    server = probe()
    port = server.url.rpartition(":")[2]
    found = subprocess.run(
        [sys.executable, "-m", "swarmkernel", "serve", "--port", port, *server.args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert 98 == found.returncode
    assert "in use" in found.stderr


def test_open_network_is_refused(tmp_path):
    """Binding to a network without accounts is refused unless said in so many words."""
    import subprocess
    import sys

    command = [sys.executable, "-m", "swarmkernel", "serve", "--port", "0", "--host", "0.0.0.0"]
    found = subprocess.run(
        [*command, "--data-dir", str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )

    assert 1 == found.returncode
    assert "--allow-open-network" in found.stderr


def _ignore(client, **body):
    try:
        client.post("Slow", **body)
    except Exception:
        pass
