"""A full disk costs the pictures that do not fit, and nothing else."""

import os
import subprocess

import pytest

PICTURE = {"images": 1, "steps": 1, "width": 64, "height": 64, "prompt": "x"}


@pytest.fixture(name="small_disk")
def _small_disk(tmp_path):
    """A data folder of 24 MiB of its own."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mounting, check=False, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder, *, but=0):
    """Write until nothing goes in any more, or all but so many bytes are taken."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (2**20, 4096, 1):
            try:
                while True:
                    file.write(b"\1" * size)
            except OSError:
                continue
        file.truncate(file.tell() - but)
    return filler


def kept(folder):
    """The files in the output folder."""
    return {path for path in (folder / "Output").rglob("*") if path.is_file()}


def refused(client):
    """Whether pictures are refused over HTTP and over a socket, with counters at zero, but made if nobody keeps them."""
    answers = [client.post("GenerateText2Image", **PICTURE) for _ in range(3)]
    frames = client.stream("GenerateText2ImageWS", **PICTURE)
    assert {"disk_full"} == {answer.get("error_id") for answer in answers}
    assert all("disk" in answer["error"] for answer in answers)
    assert ["disk_full"] == [frame["error_id"] for frame in frames if "error" in frame]
    assert 0 == sum(frames[-1]["status"].values())
    assert "images" in client.post("GenerateText2Image", donotsave=True, **PICTURE)


def test_nearly_full_disk(paint, small_disk, no_complaint):
    """Pictures stop before the disk is full, so that everything else goes on; with room again, so do they."""
    server = paint(data_dir=small_disk, SWARMKERNEL_T2I_API__MIN_FREE_MB="2")
    client = server.client()
    client.post("AddNewPreset", title="old", description="d", param_map={})
    (first,) = client.post("GenerateText2Image", **PICTURE)["images"]
    before = kept(small_disk)
    filler = fill(small_disk, but=900_000)

    refused(client)
    assert before == kept(small_disk)
    assert 200 == client.http.get(f"/{first}").status_code
    assert {"success": True} == server.client().post("DeletePreset", preset="old")
    assert {"success": True} == client.post("AddNewPreset", title="new", description="d", param_map={})

    filler.unlink()
    assert "images" in client.post("GenerateText2Image", **PICTURE)
    assert 0 == server.stop()
    no_complaint(server)


def test_full_disk(paint, small_disk, no_complaint):
    """On a disk that others have filled, writes are refused with a reason, and reading and sessions go on."""
    server = paint(data_dir=small_disk, SWARMKERNEL_T2I_API__MIN_FREE_MB="0")
    client = server.client()
    client.post("AddNewPreset", title="old", description="d", param_map={})
    (first,) = client.post("GenerateText2Image", **PICTURE)["images"]
    before = kept(small_disk)
    filler = fill(small_disk)
    big = {f"p{number}": "x" * 1000 for number in range(50)}

    refused(client)
    assert before == kept(small_disk)
    assert 200 == client.http.get(f"/{first}").status_code
    answers = [client.post("AddNewPreset", title=f"t{n}", description="", param_map=big) for n in range(3)]
    assert ["storage_failed"] * 3 == [answer.get("error_id") for answer in answers]
    assert "status" in server.client().post("GetCurrentStatus")
    assert ["old"] == [preset["title"] for preset in client.post("GetMyUserData")["presets"]]

    filler.unlink()
    assert "images" in client.post("GenerateText2Image", **PICTURE)
    assert {"success": True} == client.post("AddNewPreset", title="new", description="", param_map=big)
    assert {"success": True} == client.post("DeletePreset", preset="old")
    session = client.session_id
    assert 0 == server.stop()
    no_complaint(server)
    server.start()
    again = server.client(login=False)
    again.session_id = session
    assert ["new"] == [preset["title"] for preset in again.post("GetMyUserData")["presets"]]
    assert [] == list(small_disk.rglob("*.swarmtmp"))
