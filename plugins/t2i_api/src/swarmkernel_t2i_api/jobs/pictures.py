"""From a job to what a backend gets, and from what it gives to a saved picture."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, cast

import attrs

from swarmkernel import VERSION
from swarmkernel_models_api import Model
from swarmkernel_t2i_api.jobs.job import Job, Picture
from swarmkernel_t2i_api.limits import UserLimits
from swarmkernel_t2i_api.outputs.files import Outputs
from swarmkernel_t2i_api.outputs.media import data_url
from swarmkernel_t2i_api.outputs.metadata import UsedModel, build_metadata, date_text, duration_text
from swarmkernel_t2i_api.outputs.paths import DEFAULT_FORMAT, PathFacts, PathRules
from swarmkernel_t2i_api.params import PARAMS
from swarmkernel_t2i_api.params.images import GivenImage
from swarmkernel_t2i_api.params.registry import ParamRegistry
from swarmkernel_t2i_api.params.request import ImageRequest
from swarmkernel_t2i_api.params.values import Value
from swarmkernel_t2i_api.types import EncodedOutput, FileKind, ImageFormat, ImageJob, LoraUse

#: Seeds stay below this, as the wire's type for them does.
SEEDS: Final = 2**63
_OWN: Final = frozenset(param.id for param in PARAMS)


@attrs.frozen
class Pictures:
    """Makes the ImageJob of a job, and keeps its result."""

    registry: ParamRegistry
    outputs: Outputs
    limits: UserLimits

    def image_job(self, job: Job) -> ImageJob:
        """What the backend gets, as of now."""
        request, values = job.request, parameters(job)
        model, strength = request.model, request.amount("variationseedstrength", 0.0)
        return ImageJob(
            id=uuid.uuid4().hex,
            prompt=request.text("prompt"),
            negative_prompt=request.text("negativeprompt"),
            model=model.name if model else None,
            model_path=str(model.path) if model and model.is_local else None,
            compat_class=model.compat_class if model else None,
            vae=request.vae.name if request.vae else None,
            vae_path=str(request.vae.path) if request.vae and request.vae.is_local else None,
            width=request.width,
            height=request.height,
            seed=int(str(values["seed"])),
            steps=int(request.amount("steps", 20)),
            cfg_scale=float(request.amount("cfgscale", 7.0)),
            sampler=request.text("sampler", "euler"),
            scheduler=request.text("scheduler", "normal"),
            clip_stop_at_layer=cast("int | None", values.get("clipstopatlayer")),
            variation_seed=int(str(values["variationseed"])) if strength else None,
            variation_strength=float(strength),
            format=image_format(request),
            metadata=self.metadata(job),
            previews=not request.flag("nopreviews"),
            init_image=request.picture("initimage"),
            init_creativity=float(request.amount("initimagecreativity", 0.6)),
            mask_image=request.picture("maskimage"),
            mask_blur=int(request.amount("maskblur", 0)),
            loras=tuple(_lora_use(lora, weight) for lora, weight in request.loras),
            forward_raw=request.flag("forwardrawbackenddata"),
            extra={key: plain(value) for key, value in values.items() if key not in _OWN},
        )

    def metadata(self, job: Job, **extra: object) -> str:
        """The picture's metadata as JSON text, as of now. *extra* goes beside the parameters."""
        request, now = job.request, datetime.now().astimezone()
        facts = {
            "date": date_text(request.created),
            "prep_time": duration_text((now - request.created).total_seconds()),
        }
        models = [(key, value) for key, value in request.values.items() if isinstance(value, Model)]
        models += [("loras", lora) for lora, _ in request.loras]
        used = [UsedModel(model.name, key, model.metadata.hash or None) for key, model in models]
        return build_metadata(self._shown(job), {**facts, **request.extra, **extra}, used, version=VERSION)

    def _shown(self, job: Job) -> dict[str, Any]:
        """The parameters that metadata tell of, the ones that matter whether or not they were given.

        Pictures are not told of: they would be copied into each that is made from them.
        """
        values: dict[str, Value] = parameters(job)
        values = {**values, "steps": values.get("steps", 20), "cfgscale": values.get("cfgscale", 7.0)}
        hidden = {param.id for param in self.registry if param.hidden_from_metadata}
        hidden |= {key for key, value in values.items() if isinstance(value, GivenImage)}
        return {key: plain(value) for key, value in values.items() if key not in hidden}

    async def keep(self, job: Job, output: EncodedOutput) -> Picture:
        """Save a finished picture, or make it a data URL if it is not to be saved. Raises OutputError."""
        request = job.request
        if request.transient:
            return Picture(data_url(output.media_type, output.data), output.metadata)
        setting = request.settings.get
        rules = PathRules(
            request.text("overrideoutpathformat") or setting("outpathbuilder.format", DEFAULT_FORMAT),
            setting("outpathbuilder.maxlenperpart", 40),
            setting("outpathbuilder.modelpathsskipfolders", False),
            self.limits.path_folders(request.user_id),
            self.limits.unsafe_paths(request.user_id),
        )
        facts = PathFacts(
            moment=request.created,
            request_number=request.number,
            user_id=request.user_id,
            batch_id=job.index,
            params=self._shown(job),
            known={param.id for param in self.registry},
            model_title=request.model.title if request.model else None,
            extra=request.extra,
        )
        url = await self.outputs.save(
            output,
            rules,
            facts,
            embed=image_format(request).embed,
            text_file=setting("fileformat.savetextfilemetadata", False),
        )
        return Picture(url, output.metadata)


def parameters(job: Job) -> dict[str, Value]:
    """The parameters of one picture: those of its request, with the seeds that it counts up to.

    Batch after batch counts the variation seed if there is one to blend in, else the seed; the pictures of a
    batch count both.
    """
    request, values = job.request, dict(job.request.values)
    step = 0 if request.flag("noseedincrement") else job.batch * request.batch_size
    varied = "variationseed" in values and request.amount("variationseedstrength", 0) > 0
    values["seed"] = int(request.amount("seed", 0) + job.item + (0 if varied else step)) % SEEDS
    if varied:
        values["variationseed"] = int(request.amount("variationseed", 0) + job.item + step) % SEEDS
    return values


def plain(value: Value) -> Any:
    """A value without our classes: a model is its name without ``.safetensors``, a picture the bytes of its file."""
    if isinstance(value, GivenImage):
        return value.data
    return value.name.removesuffix(".safetensors") if isinstance(value, Model) else value


def _lora_use(lora: Model, weight: float) -> LoraUse:
    return LoraUse(lora.name, str(lora.path) if lora.is_local else None, weight)


def image_format(request: ImageRequest) -> ImageFormat:
    """How the pictures of a request are encoded.

    One that is not saved stays what the backend made, without metadata, unless the user's settings say otherwise.
    """
    settings: Mapping[str, Any] = request.settings
    depth = 16 if request.text("colordepth") == "16bit" else 8
    if request.transient and not settings.get("fileformat.reformattransientimages", False):
        return ImageFormat(color_depth=depth, embed=False)
    kind = request.text("imageformat") or settings.get("fileformat.imageformat", "PNG")
    return ImageFormat(
        kind=cast("FileKind", kind),
        quality=request.quality or settings.get("fileformat.imagequality", 100),
        dpi=settings.get("fileformat.dpi", 0),
        color_depth=depth,
        embed=settings.get("fileformat.savemetadata", True),
        stealth=settings.get("fileformat.stealthmetadata", "false"),
    )
