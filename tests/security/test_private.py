"""What people ask for is nobody else's business: it is in their pictures, and not in the log."""

import json

WORK = {"images": 1, "steps": 2, "width": 64, "height": 64}


def test_prompts_stay_out_of_the_log(painting):
    """No prompt, done, interrupted, refused or of a preset, is in the log of a server as it is installed."""
    people = painting()
    client = people.client()
    done = client.stream("GenerateText2ImageWS", prompt="canary-done", negativeprompt="canary-not", **WORK)
    assert any("image" in frame for frame in done)
    refused = client.stream("GenerateText2ImageWS", prompt="canary-refused", **{**WORK, "steps": 10**6})
    assert any("error" in frame for frame in refused)
    assert "error" in client.post("GenerateText2Image", prompt="canary-missing", model="canary-model", **WORK)
    with client.socket("GenerateText2ImageWS", prompt="slow canary-cut", **{**WORK, "steps": 100}) as ws:
        ws.recv(timeout=20)
        client.post("InterruptAll", other_sessions=True)
        assert [json.loads(frame) for frame in ws]
    client.post("AddNewPreset", title="x", description="", param_map={"prompt": "canary-preset"})
    client.post("GenerateText2Image", prompt="<preset:x> <nonsense:canary-tag>", presets=["x"], **WORK)

    assert [] == [line for line in people.server.log if "canary" in line]
