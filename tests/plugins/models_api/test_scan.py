"""What lies in the model folders, and what is said of it."""

import asyncio
import io
import json
import os
import pickle
import tarfile
import time
import zipfile
from pathlib import Path

import attrs
import pytest

from swarmkernel import MemoryStore
from swarmkernel_models_api import Model, ModelFolder, Models, ModelsSettings
from swarmkernel_models_api.folders import model_folders
from swarmkernel_models_api.reading import Here

from .conftest import REFINER, SD2, SDXL, write

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


@attrs.frozen
class Trap:
    """Touches a file when it is unpickled."""

    canary: str

    def __reduce__(self):
        return (os.mkdir, (self.canary,))


@attrs.define
class Noting(Here):
    """Notes which files it looks at."""

    looked_at: list[str] = attrs.field(factory=list)

    def examine(self, found):
        self.looked_at.append(found.name)
        return super().examine(found)


def service(*folders: Path, kind="Stable-Diffusion", store=None) -> Models:
    return Models([ModelFolder(folder, kind) for folder in folders], store or MemoryStore())


async def listed(*folders: Path, kind="Stable-Diffusion") -> dict[str, Model]:
    models = service(*folders, kind=kind)
    await models.refresh()
    return {model.name: model for model in models.list(kind)}


async def test_single_files(tmp_path):
    """Files are listed by their path with their class and its size; folders nest, hidden things do not show."""
    write(tmp_path / "one.safetensors")
    write(tmp_path / "a/b/xl.SafeTensors", SDXL)
    write(tmp_path / "a/refiner.sft", REFINER)
    write(tmp_path / "a/v2.safetensors", SD2)
    write(tmp_path / ".hidden.safetensors")
    write(tmp_path / ".cache/x.safetensors")
    (tmp_path / "notes.txt").write_text("no model")

    found = await listed(tmp_path, tmp_path / "missing")

    assert ["a/b/xl.SafeTensors", "a/refiner.sft", "a/v2.safetensors", "one.safetensors"] == list(found)
    one = found["one.safetensors"]
    assert ("stable-diffusion-v1", "stable-diffusion-v1", 512, 512) == (
        one.class_id,
        one.compat_class,
        one.standard_width,
        one.standard_height,
    )
    assert ("one", True, None) == (one.title, one.is_supported, one.problem)
    assert {"safetensors"} == one.forms
    assert abs(one.modified / 1000 - time.time()) < 60
    assert 768 == found["a/v2.safetensors"].standard_width
    assert "stable-diffusion-xl-v1-refiner" == found["a/refiner.sft"].class_id


@pytest.mark.parametrize(
    ("name", "expected", "side"),
    [
        ("sd1", "stable-diffusion-v1", 32),
        ("sd1-inpainting", "stable-diffusion-v1-inpainting", 32),
        ("sd2-512", "stable-diffusion-v2-512", 32),
        ("sd2-768", "stable-diffusion-v2-768-v", 48),
        ("xl", "stable-diffusion-xl-v1-base", 32),
        ("refiner", "stable-diffusion-xl-v1-refiner", 32),
    ],
)
async def test_diffusers_folders(pipelines, name, expected, side):
    """A folder that diffusers saved is one model, with the class of its pipeline and its own size."""
    found = (await listed(pipelines))[name]

    assert (expected, None, True) == (found.class_id, found.problem, found.is_folder)
    assert {"safetensors"} == found.forms
    assert (side, side, f"{side}x{side}") == (
        found.standard_width,
        found.standard_height,
        found.metadata.resolution,
    )
    assert ("v" if name == "sd2-768" else "epsilon") == found.metadata.prediction_type


def add_graphs(folder: Path, *parts: str) -> Path:
    for part in parts:
        (folder / part).mkdir(exist_ok=True)
        (folder / part / "model.onnx").write_bytes(b"\x08\x08")
    return folder


async def test_model_forms(pipeline, tmp_path):
    """A folder is of every form in which it is whole, and usable if there is one; the stored facts know it too."""
    graphs = ("unet", "vae_decoder", "text_encoder")
    add_graphs(pipeline("sd1", tmp_path / "m/both"), *graphs)
    bare = add_graphs(pipeline("sd1", tmp_path / "m/bare"), *graphs)
    for weights in bare.rglob("*.safetensors"):
        weights.unlink()
    (bare / "vae").rename(bare / "vae_decoder_config")
    (bare / "vae_decoder_config/config.json").rename(bare / "vae_decoder/config.json")
    add_graphs(pipeline("sd1", tmp_path / "m/lacking"), "unet", "text_encoder")
    add_graphs(pipeline("xl", tmp_path / "m/xl"), *graphs, "text_encoder_2")
    add_graphs(pipeline("xl", tmp_path / "m/xl-lacking"), *graphs)
    (add_graphs(pipeline("sd1", tmp_path / "m/empty"), *graphs) / "unet/model.onnx").write_bytes(b"")
    store = MemoryStore()

    for _ in range(2):
        models = service(tmp_path / "m", store=store)
        await models.refresh()
        found = {model.name: model for model in models.list("Stable-Diffusion")}
        assert {
            "both": {"onnx", "safetensors"},
            "bare": {"onnx"},
            "lacking": {"safetensors"},
            "xl": {"onnx", "safetensors"},
            "xl-lacking": {"safetensors"},
            "empty": {"safetensors"},
        } == {name: model.forms for name, model in found.items()}
        assert {None} == {model.problem for model in found.values()}
    bare_model = found["bare"]
    assert ("stable-diffusion-v1", 32) == (bare_model.class_id, bare_model.standard_width)


async def test_the_starter_model():
    """The model that ships with the server is an SD 1.x model of 128 by 128 pixels."""
    root = Path(__file__).parents[3] / "plugins/starter_model/src/swarmkernel_starter_model/models"

    found = await listed(root)

    assert ["starter"] == list(found)
    starter = found["starter"]
    assert ("stable-diffusion-v1", 128, 128, None) == (
        starter.class_id,
        starter.standard_width,
        starter.standard_height,
        starter.problem,
    )


async def test_spoiled_folders(pipeline, tmp_path):
    """A diffusers folder with Python in it, with pickles instead of weights or with a cut file cannot be used."""
    (pipeline("sd1", tmp_path / "m/python") / "unet/custom.py").write_text("import os")
    part = pipeline("sd1", tmp_path / "m/pickle") / "vae"
    (part / "diffusion_pytorch_model.safetensors").rename(part / "diffusion_pytorch_model.bin")
    cut = pipeline("sd1", tmp_path / "m/cut") / "text_encoder/model.safetensors"
    os.truncate(cut, cut.stat().st_size // 2)
    (pipeline("sd1", tmp_path / "m/index") / "model_index.json").write_text("[" * 100_000)
    (pipeline("sd1", tmp_path / "m/link") / "vae2").symlink_to(
        tmp_path / "m/cut/vae", target_is_directory=True
    )

    found = await listed(tmp_path / "m")

    assert {"python", "pickle", "cut", "index", "link"} == set(found)
    assert "Python" in found["python"].problem
    assert "pickle" in found["pickle"].problem
    assert "text_encoder/model.safetensors: it is cut short" in found["cut"].problem
    assert "model_index.json is not JSON" in found["index"].problem
    assert "link" in found["link"].problem


def trapped(canary: Path) -> dict[str, bytes]:
    """Files that make a folder at *canary* if anything unpickles them."""
    plain = {f"protocol {p}": pickle.dumps(Trap(str(canary)), protocol=p) for p in range(6)}
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("archive/data.pkl", plain["protocol 2"])
    tarred = io.BytesIO()
    with tarfile.open(fileobj=tarred, mode="w") as archive:
        member = tarfile.TarInfo("pickle")
        member.size = len(plain["protocol 2"])
        archive.addfile(member, io.BytesIO(plain["protocol 2"]))
    return {
        **plain,
        "zip": zipped.getvalue(),
        "tar": tarred.getvalue(),
        "7z": b"7z\xbc\xaf\x27\x1c" + bytes(40),
    }


@pytest.mark.parametrize("ending", ["ckpt", "pt", "bin", "safetensors", "SafeTensors", "gguf", "pth", "sft"])
async def test_pickles_are_never_opened(tmp_path, ending):
    """A pickle is listed as unsafe whatever its name, and nothing in it runs."""
    canary = tmp_path / "canary"
    folder = tmp_path / "m"
    folder.mkdir()
    for name, content in trapped(canary).items():
        (folder / f"{name}.{ending}").write_bytes(content)
    models = service(folder)

    await models.refresh()

    found = models.list()
    assert 9 == len(found)
    for model in found:
        assert "pickle" in model.problem, model.name
        assert not model.is_supported
        assert await models.tensor_hash(model) is None
    assert not canary.exists()


async def test_damaged_files_are_listed_with_the_reason(tmp_path):
    """A damaged file is listed as unsupported, and does not keep others from being used."""
    whole = write(tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "empty.safetensors").write_bytes(b"")
    (tmp_path / "short.safetensors").write_bytes(whole[:7])
    (tmp_path / "half.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cut.safetensors").write_bytes(whole[:-1])
    (tmp_path / "text.safetensors").write_bytes(b"hello world, this is no model")
    (tmp_path / "engine.engine").write_bytes(b"ptrt" + bytes(100))

    found = await listed(tmp_path)

    assert 7 == len(found)
    assert ["whole.safetensors"] == [model.name for model in found.values() if model.is_supported]
    assert "empty" in found["empty.safetensors"].problem
    assert "1 bytes are missing" in found["cut.safetensors"].problem


async def test_content_counts_and_not_the_name(tmp_path):
    """A safetensors file is one under any listed name; a gguf file is told by its magic."""
    write(tmp_path / "model.ckpt")
    (tmp_path / "quant.bin").write_bytes(b"GGUF" + bytes(60))

    found = await listed(tmp_path)

    assert "stable-diffusion-v1" == found["model.ckpt"].class_id
    assert ("gguf", True) == (found["quant.bin"].metadata.special_format, found["quant.bin"].is_supported)


async def test_metadata(tmp_path):
    """The header's modelspec keys are read, those of the files beside the model win, and sizes come with them."""
    write(
        tmp_path / "m.safetensors",
        {"x": (1,)},
        **{
            "modelspec.architecture": "stable-diffusion-xl-v1-base",
            "modelspec.title": "Header",
            "modelspec.author": "A" * 5000,
            "modelspec.resolution": "640x896",
            "modelspec.prediction_type": "v_prediction",
            "modelspec.tags": "cat, dog,,",
            "modelspec.trigger_phrase": "meow",
            "modelspec.hash_sha256": "0xabc",
            "author": "bare",
        },
    )
    (tmp_path / "m.swarm.json").write_text(
        json.dumps({"modelspec.title": "Mine", "is_negative_embedding": True})
    )
    (tmp_path / "m.civitai.info").write_text(
        json.dumps({"model": {"name": "Theirs"}, "title": "Theirs", "trainedWords": ["a", "b"]})
    )
    (tmp_path / "m.json").write_text("not JSON")

    found = (await listed(tmp_path))["m.safetensors"]

    said = found.metadata
    assert ("Mine", "stable-diffusion-xl-v1-base", 640, 896) == (
        found.title,
        found.class_id,
        found.standard_width,
        found.standard_height,
    )
    assert ("A" * 4096, "v", ("cat", "dog"), "meow") == (
        said.author,
        said.prediction_type,
        said.tags,
        said.trigger_phrase,
    )
    assert ("0xabc", True, "640x896") == (said.hash, said.is_negative_embedding, said.resolution)


async def test_sidecar_fills_what_the_header_lacks(tmp_path):
    """Title, description and trigger words of other tools' files are used where the model says nothing."""
    write(tmp_path / "m.safetensors")
    (tmp_path / "m.cm-info.json").write_text(
        json.dumps(
            {"ModelName": "N", "VersionName": "v3", "ModelDescription": "D", "TrainedWords": ["x", "y"]}
        )
    )

    found = (await listed(tmp_path))["m.safetensors"]

    assert ("N", "v3\nD", "x, y") == (found.title, found.metadata.description, found.metadata.trigger_phrase)


async def test_first_root_wins(tmp_path):
    """Of two files of one name the one in the first folder counts, and the other is remembered."""
    write(tmp_path / "1/m.safetensors")
    write(tmp_path / "2/m.safetensors", SDXL)

    found = await listed(tmp_path / "1", tmp_path / "2")

    assert "stable-diffusion-v1" == found["m.safetensors"].class_id
    assert (tmp_path / "2/m.safetensors",) == found["m.safetensors"].alternates


async def test_links(tmp_path):
    """A link is followed within the model folders, not out of them, and a loop ends."""
    write(tmp_path / "secret/out.safetensors")
    write(tmp_path / "shared/in.safetensors")
    root = tmp_path / "root"
    write(root / "own.safetensors")
    (root / "leak.safetensors").symlink_to(tmp_path / "secret/out.safetensors")
    (root / "leaks").symlink_to(tmp_path / "secret", target_is_directory=True)
    (root / "fine").symlink_to(tmp_path / "shared", target_is_directory=True)
    (root / "fine.safetensors").symlink_to(root / "own.safetensors")
    (root / "loop").symlink_to(root, target_is_directory=True)
    (root / "gone.safetensors").symlink_to(tmp_path / "nowhere")
    (root / "own.png").symlink_to(tmp_path / "secret/out.safetensors")

    found = await listed(root, tmp_path / "shared")

    assert {"own.safetensors", "fine/in.safetensors", "fine.safetensors", "in.safetensors"} == set(found)
    assert found["own.safetensors"].preview is None


async def test_diffusers_folder_with_a_leak(pipeline, tmp_path):
    """A diffusers folder of which a file lies outside of the model folders is left out."""
    folder = pipeline("sd1", tmp_path / "m/leaky")
    weights = folder / "unet/diffusion_pytorch_model.safetensors"
    weights.rename(tmp_path / "elsewhere")
    weights.symlink_to(tmp_path / "elsewhere")

    assert {} == await listed(tmp_path / "m")


async def test_odd_names(tmp_path):
    """Names in any script are listed; those that are no text or hold control characters are not."""
    write(tmp_path / "模型　é [x].safetensors")
    write(tmp_path / "a\nb.safetensors")
    other = os.fsencode(tmp_path) + b"/\xff.safetensors"
    Path(os.fsdecode(other)).write_bytes((tmp_path / "a\nb.safetensors").read_bytes())

    assert ["模型　é [x].safetensors"] == list(await listed(tmp_path))


async def test_nunchaku_folder(tmp_path):
    """A model in several files with a `comfy_config.json` is one, titled after its folder."""
    write(tmp_path / "flux/transformer_blocks.safetensors", {"a.wscales": (1,)})
    write(tmp_path / "flux/unquantized_layers.safetensors", {"b": (1,)})
    (tmp_path / "flux/comfy_config.json").write_text("{}")

    found = await listed(tmp_path)

    assert [("flux/transformer_blocks.safetensors", "flux", "nunchaku")] == [
        (model.name, model.title, model.metadata.special_format) for model in found.values()
    ]


async def test_changes_are_seen(tmp_path):
    """A refresh finds what is new, changed and gone, sidecars and previews included."""
    models = service(tmp_path)
    path = write(tmp_path / "m.safetensors")
    await models.refresh()
    first = models.list()[0]
    write(path, SDXL)
    write(tmp_path / "new.safetensors")
    await models.refresh()
    second = models.get("m")
    assert ("stable-diffusion-v1", "stable-diffusion-xl-v1-base") == (first.class_id, second.class_id)
    assert ["m.safetensors", "new.safetensors"] == [model.name for model in models.list()]

    path.with_suffix(".png").write_bytes(PNG)
    (tmp_path / "m.swarm.json").write_text('{"title": "T"}')
    (tmp_path / "new.safetensors").unlink()
    await models.refresh()
    assert ("T", tmp_path / "m.png") == (models.get("m").title, models.get("m").preview)
    assert second.stamp != models.get("m").stamp
    assert 1 == len(models.list())


async def test_a_change_inside_a_diffusers_folder_is_seen(pipeline, tmp_path):
    """Weights that are cut after the first look make the folder unusable at the next."""
    folder = pipeline("sd1", tmp_path / "m/x")
    models = service(tmp_path / "m")
    await models.refresh()
    assert models.get("x").is_supported
    os.truncate(folder / "unet/diffusion_pytorch_model.safetensors", 100)
    await models.refresh()
    assert not models.get("x").is_supported


async def test_only_what_is_new_is_read(tmp_path):
    """After a restart with the same store no known file is opened again; a deleted one is forgotten."""
    store = MemoryStore()
    for number in range(5):
        write(tmp_path / f"{number}.safetensors")
    before = service(tmp_path, store=store)
    await before.refresh()
    write(tmp_path / "5.safetensors")
    (tmp_path / "0.safetensors").unlink()
    reader = Noting()
    after = Models([ModelFolder(tmp_path)], store, reader=reader)
    await after.remember()
    await after.refresh()

    assert ["5.safetensors"] == reader.looked_at
    assert before.get("3") == after.get("3")
    assert 5 == len(await after._saved().items())


async def test_ten_thousand_files(tmp_path):
    """Ten thousand known files are scanned again in under two seconds, and found among in a few milliseconds."""
    content = write(tmp_path / "0.safetensors").read_bytes()
    for number in range(1, 10_000):
        (tmp_path / f"{number}.safetensors").write_bytes(content)
    models = service(tmp_path)
    await models.refresh()
    began = time.perf_counter()
    await models.refresh()
    scanned = time.perf_counter()
    assert "9999.safetensors" == models.find("9999").name
    assert "1234.safetensors" == models.find("1234.SAFEtensors").name
    found = time.perf_counter()
    assert 10_000 == len(models.list())
    assert scanned - began < 4
    assert found - scanned < 0.2


async def test_models_show_while_the_first_scan_runs(tmp_path):
    """A long first scan shows and saves what it has looked at so far."""
    content = write(tmp_path / "0.safetensors").read_bytes()
    for number in range(1, 2500):
        (tmp_path / f"{number}.safetensors").write_bytes(content)
    models = service(tmp_path)
    seen = set()
    scanning = asyncio.create_task(models.refresh())
    while not scanning.done():
        seen.add(len(models.list()))
        await asyncio.sleep(0)
    await scanning
    assert {0, 1000, 2000, 2500} == seen
    assert 2500 == len(await models._saved().items())


async def test_hash(tmp_path):
    """The hash covers the bytes after the header alone, is remembered, and changes with the tensors."""
    path = write(tmp_path / "m.safetensors", {"a": (4,)})
    models = service(tmp_path)
    await models.refresh()
    digest = await models.tensor_hash(models.get("m"))
    # SHA-256 of eight zero bytes
    assert "0xaf5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc" == digest
    assert digest == models.get("m").metadata.hash

    write(path, {"a": (4,)}, **{"modelspec.title": "renamed"})
    await models.refresh()
    assert "" == models.get("m").metadata.hash
    assert digest == await models.tensor_hash(models.get("m"))
    await models.refresh()
    assert digest == models.get("m").metadata.hash


async def test_default_is_usable(tmp_path):
    """The model to use where nobody chose is one that can be used and is of a known class."""
    (tmp_path / "a.safetensors").write_bytes(b"")
    write(tmp_path / "b.safetensors", {"x": (1,)})
    write(tmp_path / "c.safetensors")
    models = service(tmp_path)
    assert models.default() is None
    await models.refresh()
    assert "c.safetensors" == models.default().name


def test_folders(tmp_path):
    """Every root has a folder per kind; settings rename them, plugins add to them."""
    plain = model_folders(ModelsSettings(), tmp_path, [])
    assert ModelFolder(tmp_path / "Models/Lora", "LoRA", read_only=False) in plain
    assert 12 == len(plain)

    added = ModelFolder(tmp_path / "plugin")
    settings = ModelsSettings(roots=["/one", "two"], folders={"VAE": ["v", "/abs"]})
    chosen = model_folders(settings, tmp_path, [added])
    assert {"/one/v", "/abs", f"{tmp_path}/two/v"} == {str(f.path) for f in chosen if f.kind == "VAE"}
    assert added == chosen[-1]
    with pytest.raises(ValueError, match="Loras"):
        ModelsSettings(folders={"Loras": []})
