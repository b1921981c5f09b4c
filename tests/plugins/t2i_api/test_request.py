"""From the body of a request to a checked one."""

import base64
import io
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import attrs
import pytest
from PIL import Image

from swarmkernel import MemoryStore, Services, Session, UserData
from swarmkernel_models_api import ModelFolder, Models
from swarmkernel_t2i_api import Param
from swarmkernel_t2i_api.errors import LimitError, ParamError, SessionEndedError
from swarmkernel_t2i_api.jobs.job import Addon, Demand, Job
from swarmkernel_t2i_api.jobs.pictures import Pictures, image_format, parameters
from swarmkernel_t2i_api.limits import UserLimits
from swarmkernel_t2i_api.outputs.files import Outputs
from swarmkernel_t2i_api.params import PARAMS
from swarmkernel_t2i_api.params.draft import wrap_text
from swarmkernel_t2i_api.params.images import GivenImage
from swarmkernel_t2i_api.params.registry import ParamRegistry
from swarmkernel_t2i_api.params.request import RequestReader, check_pictures
from swarmkernel_t2i_api.settings import T2ISettings
from tests.plugins.t2i_api.conftest import write_model

SESSION = Session("0" * 40, "local", "", 0.0, 0.0)
EXTRA = [
    Param("Brush Size", "integer", "3", ignore="3", min=1, max=9),
    Param("Magic", "text", "", feature_flag="magic, wand"),
    Param("Sketch", "image"),
]
REGISTERED = {param.id: param for param in (*PARAMS, *EXTRA)}


@attrs.frozen
class Choices:
    """A user's settings and presets."""

    chosen: Mapping[str, object] = attrs.Factory(dict)
    presets: Mapping[str, Mapping[str, str]] = attrs.Factory(dict)

    async def settings(self, user_id):
        """The settings as they are."""
        return dict(self.chosen)

    async def preset(self, user_id, title):
        """A preset by title in any case."""
        return self.presets.get(title.lower())

    async def param_edits(self, user_id):
        """No edits."""


@pytest.fixture(name="models")
async def _models(tmp_path):
    for name, architecture in (
        ("alpha", "stable-diffusion-v1"),
        ("fol/big-xl", "stable-diffusion-xl-v1-base"),
    ):
        write_model(tmp_path, name, architecture)
    vae = write_model(tmp_path, "vae", "stable-diffusion-v1/vae")
    (tmp_path / "VAE").mkdir()
    vae.rename(tmp_path / "VAE" / "soft.safetensors")
    for name in ("ink", "folder/wash"):
        write_model(tmp_path, f"../Lora/{name}", "stable-diffusion-v1/lora")
    models = Models(
        [
            ModelFolder(tmp_path / "Models/Stable-Diffusion"),
            ModelFolder(tmp_path / "VAE", "VAE"),
            ModelFolder(tmp_path / "Models/Lora", "LoRA"),
        ],
        MemoryStore(),
    )
    await models.refresh()
    return models


@pytest.fixture(name="reader")
def _reader(models):
    def make(choices: Choices | None = None, **limits: int) -> RequestReader:
        services = Services()
        if choices is not None:
            services.add(UserData, choices)
        return RequestReader(ParamRegistry(REGISTERED), models, services, T2ISettings(**limits))

    return make


async def read(reader, *, allowed=True, **body):
    """One request of the local user."""
    return await reader.read({"images": 1, **body}, SESSION, lambda _permission: allowed)


async def test_defaults(reader):
    """A request with a prompt alone gets the default model in its size and a random seed; nothing else is set."""
    request = await read(reader(), prompt="a cat")
    assert ("alpha.safetensors", False) == (request.model.name, request.model_named)
    assert (512, 512) == (request.width, request.height)
    assert 0 <= request.values["seed"] < 2**31
    assert {"prompt", "model", "seed", "width", "height"} == set(request.values)
    assert frozenset() == request.features


async def test_named_model(reader):
    """A model is found by a part of its name, and gives the picture its size."""
    request = await read(reader(), prompt="", model="Big-XL")
    assert "fol/big-xl.safetensors" == request.model.name
    assert (1024, 1024) == (request.width, request.height)
    expected = Demand("fol/big-xl.safetensors", "stable-diffusion-xl-v1", forms=frozenset({"safetensors"}))
    assert expected == Demand.of(request)


async def test_addons_and_choices_are_needed(reader):
    """LoRAs and the VAE are part of what a backend must have, and a value that only some backends take of what it must take."""
    one = reader()
    one.registry.added = lambda param: ["uni_pc", "euler"] if param == "sampler" else []
    request = await read(one, loras=["ink"], vae="soft", sampler="uni_pc", scheduler="karras")
    demand = Demand.of(request)
    assert {Addon("LoRA", "ink.safetensors"), Addon("VAE", "soft.safetensors")} == demand.addons
    assert {("sampler", "uni_pc")} == demand.choices
    with pytest.raises(ParamError, match="Scheduler"):
        await read(one, scheduler="uni_pc")


async def test_keys(reader):
    """Keys are parameters in any spelling; unknown ones, null and control keys change nothing."""
    request = await read(
        reader(), session_id="x", unknown=[1], **{"CFG Scale": "3", "Brush_Size": 4, "steps": None}
    )
    assert (3.0, 4) == (request.values["cfgscale"], request.values["brushsize"])
    assert "steps" not in request.values


async def test_request_ids(reader):
    """Requests of a user count from 1001, also those of other sessions."""
    one = reader()
    assert ["1001", "1002"] == [(await read(one)).id, (await read(one)).id]
    other = Session("1" * 40, "ann", "", 0.0, 0.0)
    assert "1001" == (await one.read({"images": 1}, other, lambda _permission: True)).id


async def test_presets(reader):
    """Presets override what was given, in order, and may wrap the prompt and change how many images there are."""
    presets = {
        "photo": {"prompt": "photo of {value}, sharp", "images": "3", "steps": "9"},
        "fast": {"Steps": "4", "unheard": "of"},
    }
    request = await read(
        reader(Choices(presets=presets)), prompt="a cat", steps=20, presets=["Photo", "missing", "fast"]
    )
    assert "photo of a cat, sharp" == request.text("prompt")
    assert (3, 4) == (request.images, request.values["steps"])
    assert ["Photo", "missing", "fast"] == request.extra["presets_used"]


def test_wrap_text():
    """Only what comes before the first segment, object or region is wrapped; the rest goes to the end."""
    assert "a X b" == wrap_text("a {value} b", "X")
    assert "a X b <segment:face>nice" == wrap_text("a {value} b", "X <segment:face>nice")
    assert "X, X <region:1><object:2>" == wrap_text("{value}, {value}", "X <region:1><object:2>")


@pytest.mark.parametrize("extra", [{"a": 1, "b": [1, "x"]}, '{"a": 1, "b": [1, "x"]}'])
async def test_extra_metadata(reader, extra):
    """Metadata of the caller may be an object or its text; arrays stay, all else becomes text."""
    assert {"a": "1", "b": [1, "x"]} == (await read(reader(), extra_metadata=extra)).extra


@pytest.mark.parametrize("extra", ["{", [1], 5, "[]"])
async def test_bad_extra_metadata(reader, extra):
    """Metadata that are no object are refused."""
    with pytest.raises(ParamError, match="extra_metadata"):
        await read(reader(), extra_metadata=extra)


@pytest.mark.parametrize(
    ("body", "limits", "reason"),
    [
        ({"images": 101}, {}, "at most 100"),
        ({"images": 20, "batchsize": 6}, {}, "120 pictures"),
        ({"width": 4097}, {}, "width"),
        ({"rawresolution": "64x5000"}, {}, "height"),
        ({"steps": 151}, {}, "151 steps"),
        ({"width": 4000, "height": 4000, "steps": 150, "images": 10}, {}, "pixels x steps x pictures"),
        ({"images": 2}, {"max_images": 1}, "at most 1"),
    ],
)
async def test_limits(reader, body, limits, reason):
    """A request beyond what the operator allows is refused with the number that is allowed."""
    with pytest.raises(LimitError, match=reason):
        await read(reader(**limits), **body)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"prompt": "x" * 5_000_000}, "5000000 characters, at most 32768"),
        ({"negativeprompt": "x" * 32_769}, "Negative Prompt"),
        ({"steps": 0}, "0 steps"),
        ({"model": "unheard of"}, "no Stable-Diffusion model"),
        ({"rawresolution": "huge"}, "WIDTHxHEIGHT"),
    ],
)
async def test_bad_values(reader, body, reason):
    """A value that no picture can have is refused with the reason."""
    with pytest.raises(ParamError, match=reason):
        await read(reader(), **body)


async def test_prompt_limit(reader):
    """A prompt of exactly as many characters as are allowed is accepted."""
    assert 32_768 == len((await read(reader(), prompt="x" * 32_768)).text("prompt"))


async def test_permissions(reader):
    """A parameter that needs a permission is refused to who lacks it; the others are not."""
    assert "x" == (await read(reader(), allowed=False, prompt="x")).text("prompt")
    with pytest.raises(ParamError, match="not allowed to set the parameter Model"):
        await read(reader(), allowed=False, model="alpha")


async def test_hidden_models(reader, models):
    """A model that the user may not know of does not exist for them."""
    models.restrict(lambda _user, model: model.name == "alpha.safetensors")
    with pytest.raises(ParamError, match="there is no"):
        await read(reader(), model="big-xl")


async def test_all_models_hidden(reader, models):
    """Who may know of no model cannot have the backend choose one; on a server without models it may."""
    models.restrict(lambda _user, model: model.kind != "Stable-Diffusion")
    with pytest.raises(ParamError, match="There is no Stable-Diffusion model to generate with") as caught:
        await read(reader())
    assert "model_not_found" == caught.value.error_id
    empty = attrs.evolve(reader(), models=Models((), MemoryStore()))
    assert (await read(empty)).model is None


async def test_hidden_vae(reader, models):
    """A VAE that the user may not know of is not used, whether named or of the settings; LoRAs neither."""
    models.restrict(lambda _user, model: model.kind != "VAE")
    with pytest.raises(ParamError) as hidden:
        await read(reader(), vae="soft")
    with pytest.raises(ParamError) as missing:
        await read(reader(), vae="sift")
    assert str(hidden.value) == str(missing.value).replace("sift", "soft")
    choices = Choices({"vaes.defaultsdv1vae": "soft"})
    assert (await read(reader(choices), automaticvae=True)).vae is None


async def test_session_that_ended_meanwhile(reader):
    """A request whose session ends while it is read is not begun, since no interrupt can reach it."""
    session = Session("1" * 40, "local", "", 0.0, 0.0)

    @attrs.frozen
    class Ending(Choices):
        async def settings(self, user_id):
            session.ended.set()
            return {}

    with pytest.raises(SessionEndedError) as caught:
        await reader(Ending()).read({"images": 1}, session, lambda _permission: True)
    assert "invalid_session_id" == caught.value.error_id


async def test_features(reader):
    """What is set decides what a backend must support; flags that only steer clients do not count."""
    request = await read(reader(), magic="on", sampler="euler", variationseedstrength=0.5)
    assert {"magic", "wand", "comfyui", "variation_seed"} == request.features
    assert {"magic", "wand", "variation_seed"} == Demand.of(request).features


@pytest.mark.parametrize(
    ("model", "vae", "demanded"),
    [
        ({"safetensors", "onnx"}, {"safetensors"}, {"safetensors"}),
        ({"safetensors", "onnx"}, set(), {"safetensors", "onnx"}),
        ({"onnx"}, {"safetensors"}, {"onnx"}),
        (set(), {"safetensors"}, set()),
    ],
)
async def test_forms(reader, model, vae, demanded):
    """A job goes where both its model and its VAE can be loaded, as far as there is such a place."""
    request = await read(reader(), vae="soft")
    request = attrs.evolve(
        request,
        model=attrs.evolve(request.model, forms=frozenset(model)),
        vae=attrs.evolve(request.vae, forms=frozenset(vae)),
    )
    assert demanded == Demand.of(request).forms
    assert model == Demand.of(attrs.evolve(request, vae=None)).forms


async def test_vae(reader):
    """A VAE is one that was named, or the one of the user's settings for the model's family."""
    choices = Choices({"vaes.defaultsdv1vae": "soft"})
    assert (await read(reader(choices))).vae is None
    assert "soft.safetensors" == (await read(reader(), vae="Soft")).vae.name
    assert "soft.safetensors" == (await read(reader(choices), vae="Automatic")).vae.name
    assert "soft.safetensors" == (await read(reader(choices), automaticvae=True)).vae.name
    assert (await read(reader(choices), automaticvae=True, model="big-xl")).vae is None


def job_of(request, batch=0, item=0):
    """One job of a request."""
    return Job(request, Demand.of(request), batch, item, batch * request.batch_size + item, 0.0)


@pytest.mark.parametrize(
    ("body", "seeds"),
    [
        ({"images": 2, "batchsize": 2}, [10, 11, 12, 13]),
        ({"images": 2, "batchsize": 2, "noseedincrement": True}, [10, 11, 10, 11]),
        ({"images": 2, "variationseed": 50, "variationseedstrength": 0.5}, [(10, 50), (10, 51)]),
        (
            {"images": 2, "batchsize": 2, "variationseed": 50, "variationseedstrength": 0.5},
            [(10, 50), (11, 51), (10, 52), (11, 53)],
        ),
        ({"images": 2, "variationseed": 50}, [10, 11]),
    ],
)
async def test_seeds(reader, tmp_path, body, seeds):
    """Seeds count from picture to picture; with a variation seed that one counts, within a batch both do."""
    request = await read(reader(), seed=10, **body)
    pictures = Pictures(reader().registry, Outputs(tmp_path), UserLimits(Services(), T2ISettings()))
    jobs = [
        job_of(request, batch, item) for batch in range(request.images) for item in range(request.batch_size)
    ]
    made = [pictures.image_job(job) for job in jobs]
    got = [job.seed if job.variation_seed is None else (job.seed, job.variation_seed) for job in made]
    assert seeds == got
    assert [job.seed for job in made] == [
        json.loads(job.metadata)["sui_image_params"]["seed"] for job in made
    ]


async def test_largest_seed(reader):
    """Counting beyond the largest seed starts again at zero."""
    request = await read(reader(), seed=2**63 - 1, images=2)
    assert [2**63 - 1, 0] == [parameters(job_of(request, batch))["seed"] for batch in (0, 1)]


async def test_image_job(reader, tmp_path):
    """A backend gets every parameter, typed, with the model's and the VAE's files."""
    request = await read(
        reader(), prompt="p", negativeprompt="n", model="alpha", vae="soft", steps=3, cfgscale=2, sampler="lcm",
        scheduler="karras", clipstopatlayer=-2, brushsize=5, nopreviews="true", width=640, height=320, seed=1,
    )  # fmt: skip
    job = Pictures(reader().registry, Outputs(tmp_path), UserLimits(Services(), T2ISettings())).image_job(
        job_of(request)
    )
    assert ("p", "n", 3, 2.0, "lcm", "karras", -2) == (
        job.prompt, job.negative_prompt, job.steps, job.cfg_scale, job.sampler, job.scheduler, job.clip_stop_at_layer,
    )  # fmt: skip
    assert ("alpha.safetensors", "stable-diffusion-v1") == (job.model, job.compat_class)
    assert ("alpha.safetensors", "soft.safetensors") == (Path(job.model_path).name, Path(job.vae_path).name)
    assert ({"brushsize": 5}, False, 640, 320, 1) == (
        job.extra,
        job.previews,
        job.width,
        job.height,
        job.seed,
    )


def picture(size=(8, 6), mode="RGB"):
    """A PNG's bytes, and its data URL."""
    file = io.BytesIO()
    Image.new(mode, size).save(file, "PNG")
    return file.getvalue(), f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


async def test_init_image(reader, tmp_path):
    """A backend gets the init image and the mask as they came; only one that can use them fits."""
    (image, image_url), (mask, mask_url) = picture(), picture(mode="L")
    request = await read(
        reader(), initimage=image_url, maskimage=mask_url, initimagecreativity="0.25", maskblur=3
    )
    job = made_of(request, tmp_path)
    assert (image, 0.25, mask, 3) == (job.init_image, job.init_creativity, job.mask_image, job.mask_blur)
    assert {"init_image", "mask_image"} == Demand.of(request).features
    assert len(image) + len(mask) == request.picture_bytes
    assert image.hex() not in repr(job) + repr(request)
    without = made_of(await read(reader(), initimage=image_url, maskblur=0), tmp_path)
    assert (image, 0.6, None, 0) == (
        without.init_image, without.init_creativity, without.mask_image, without.mask_blur,
    )  # fmt: skip


async def test_pictures_stay_out_of_metadata(reader, tmp_path):
    """Metadata tell the numbers of an init image, and hold no copy of it."""
    request = await read(reader(), initimage=picture()[1], initimagecreativity=0.25)
    params = json.loads(made_of(request, tmp_path).metadata)["sui_image_params"]
    assert 0.25 == params["initimagecreativity"]
    assert "initimage" not in params


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"initimage": "data:image/png;base64,QUFBQUFBQUE="}, "Init Image: it is not a PNG"),
        ({"initimage": "raw/2026/some.png"}, "Init Image: it is not base64|Init Image: it is neither"),
        ({"maskimage": picture()[1]}, "Mask Image: there is no Init Image"),
        ({"initimagecreativity": 1.1}, "Init Image Creativity: 1.1 is not between 0 and 1"),
        ({"maskblur": 65}, "Mask Blur: 65 is not between 0 and 64"),
        ({"loras": ["ink", "oil"]}, "LoRAs: there is no LoRA model 'oil'"),
        ({"loras": ["alpha"]}, "LoRAs: there is no LoRA model 'alpha'"),
        ({"loras": ["ink"] * 65}, "LoRAs: it has 65 items; at most 64"),
        ({"loras": ["ink"], "loraweights": ["x"]}, "LoRA Weights: 'x' is not a number"),
        ({"loras": ["ink"], "loraweights": "nan"}, "LoRA Weights: 'nan' is not a number"),
        ({"loras": ["ink"], "loraweights": "10.5"}, "LoRA Weights: 10.5 is not between -10 and 10"),
    ],
)
async def test_bad_pictures_and_loras(reader, body, reason):
    """A picture or LoRA that cannot be used is an error that names the parameter."""
    with pytest.raises(ParamError, match=reason):
        await read(reader(), **body)


async def test_pictures_of_unfinished_requests(reader):
    """What a user's unfinished requests hold is limited, each user's for itself."""
    request = await read(reader(), initimage=picture()[1])
    half = GivenImage(bytes(128 << 20), 1, 1)
    full = attrs.evolve(request, values={"initimage": half, "maskimage": half})
    check_pictures(full, [])
    check_pictures(request, [attrs.evolve(full, user_id="another")])
    check_pictures(await read(reader()), [full])
    with pytest.raises(LimitError, match="unfinished requests take 256 MiB"):
        check_pictures(request, [full])


async def test_foreign_pictures(reader, tmp_path):
    """A picture for a parameter of another package reaches the backend as the bytes of its file."""
    image, text = picture()
    assert {"sketch": image} == made_of(await read(reader(), sketch=text), tmp_path).extra
    with pytest.raises(ParamError, match="Sketch: it is neither a data URL"):
        await read(reader(), sketch="some/file.png")


@pytest.mark.parametrize(
    ("weights", "numbers"),
    [
        (None, [1, 1]),
        ("", [1, 1]),
        ([0.5], [0.5, 1]),
        ("0.5, -2", [0.5, -2]),
        ([1, 2, 3], [1, 2]),
        ("1.0\n|||\n-10", [1, -10]),
    ],
)
async def test_loras(reader, tmp_path, weights, numbers):
    """Each LoRA has its file and a weight, 1 if none is given; a backend must be able to use them."""
    request = await read(reader(), loras=["wash", "Ink.safetensors"], loraweights=weights)
    uses = made_of(request, tmp_path).loras
    assert ["folder/wash.safetensors", "ink.safetensors"] == [use.name for use in uses]
    assert ["wash.safetensors", "ink.safetensors"] == [Path(use.path).name for use in uses]
    assert numbers == [use.weight for use in uses]
    assert {"lora"} == Demand.of(request).features
    blocks = json.loads(made_of(request, tmp_path).metadata)
    assert ["folder/wash", "ink"] == blocks["sui_image_params"]["loras"]
    assert numbers == [float(weight) for weight in blocks["sui_image_params"]["loraweights"]]
    used = [(model["name"], model["param"]) for model in blocks["sui_models"]]
    assert [("folder/wash.safetensors", "loras"), ("ink.safetensors", "loras")] == used[1:]


async def test_no_loras(reader, tmp_path):
    """An empty list of LoRAs asks nothing of a backend, whatever weights come with it."""
    for loras in ([], "", " , "):
        request = await read(reader(), loras=loras, loraweights=[2])
        assert ((), frozenset()) == (made_of(request, tmp_path).loras, Demand.of(request).features)
        assert "loraweights" not in request.values


async def test_hidden_loras(reader, models):
    """A LoRA that the user may not know of does not exist."""
    models.restrict(lambda _user, model: model.name != "ink.safetensors")
    with pytest.raises(ParamError, match="there is no LoRA model 'ink'"):
        await read(reader(), loras=["ink"])


def made_of(request, tmp_path):
    """What a backend gets for a request."""
    limits = UserLimits(Services(), T2ISettings())
    return Pictures(ParamRegistry(REGISTERED), Outputs(tmp_path), limits).image_job(job_of(request))


async def test_metadata(reader, tmp_path):
    """Metadata tell every parameter that was set, typed, and those that always matter; and the models' files."""
    request = await read(
        reader(), prompt="é", model="big-xl", seed=7, forwardswarmdata=True, extra_metadata={"mine": "x"}
    )
    text = Pictures(reader().registry, Outputs(tmp_path), UserLimits(Services(), T2ISettings())).metadata(
        job_of(request), more=True
    )
    assert text.isascii()
    blocks = json.loads(text)
    params = blocks["sui_image_params"]
    version = params.pop("swarm_version")
    assert version
    assert {
        "prompt": "é", "model": "fol/big-xl", "seed": 7, "width": 1024, "height": 1024, "steps": 20, "cfgscale": 7.0,
    } == params  # fmt: skip
    facts = blocks["sui_extra_data"]
    assert {"date", "prep_time", "mine", "more"} == set(facts)
    assert f"{datetime.now().astimezone():%Y-%m-%d}" == facts["date"]
    assert [("fol/big-xl.safetensors", "model")] == [(m["name"], m["param"]) for m in blocks["sui_models"]]


@pytest.mark.parametrize(
    ("body", "settings", "form"),
    [
        ({}, {}, ("PNG", 100, 0, True)),
        ({}, {"fileformat.imageformat": "JPG", "fileformat.imagequality": 80}, ("JPG", 80, 0, True)),
        ({"imageformat": "webp_lossless"}, {"fileformat.dpi": 300}, ("WEBP_LOSSLESS", 100, 300, True)),
        ({"imageformat": "jpg75"}, {"fileformat.imagequality": 80}, ("JPG", 75, 0, True)),
        ({}, {"fileformat.savemetadata": False}, ("PNG", 100, 0, False)),
        ({"donotsave": True, "imageformat": "JPG"}, {}, ("PNG", 100, 0, False)),
        ({}, {"savefiles": False}, ("PNG", 100, 0, False)),
        (
            {"donotsave": True, "imageformat": "JPG"},
            {"fileformat.reformattransientimages": True},
            ("JPG", 100, 0, True),
        ),
    ],
)
async def test_image_format(reader, body, settings, form):
    """The file's format is the request's, else the user's; what is not saved stays as it was made."""
    made = image_format(await read(reader(Choices(settings)), **body))
    assert form == (made.kind, made.quality, made.dpi, made.embed)
