"""What another server of this API is asked for when it is to make a picture."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from typing import Any, Final

from swarmkernel_backends_remote.answers import text
from swarmkernel_backends_remote.pictures import data_url, most_pixels
from swarmkernel_t2i_api import ImageJob, RawFrame

MAX_PREVIEW: Final = 4 << 20
MAX_RAW: Final = 2 << 20


def frame_mib(job: ImageJob) -> int:
    """How long a frame about a job may be: a picture that cannot be compressed, as a data URL, and a preview beside it."""
    return ((most_pixels(job) * 6 + 2 * MAX_PREVIEW) >> 20) + 1


def _media(job: ImageJob) -> dict[str, Any]:
    """What a picture starts from and is made with besides its model."""
    wanted: dict[str, Any] = {}
    if job.init_image is not None:
        wanted |= {"initimage": data_url(job.init_image), "initimagecreativity": job.init_creativity}
    if job.mask_image is not None:
        wanted |= {"maskimage": data_url(job.mask_image), "maskblur": job.mask_blur}
    if job.loras:
        wanted |= {
            "loras": [lora.name for lora in job.loras],
            "loraweights": [lora.weight for lora in job.loras],
        }
    return wanted


def request_body(job: ImageJob, remote_id: int, model: str | None) -> dict[str, Any]:
    """What the other server is asked for: this one picture, on that backend, as data."""
    wanted: dict[str, Any] = {
        "prompt": job.prompt,
        "negativeprompt": job.negative_prompt,
        "model": model,
        "vae": job.vae,
        "seed": job.seed,
        "steps": job.steps,
        "cfgscale": job.cfg_scale,
        "width": job.width,
        "height": job.height,
        "sampler": job.sampler,
        "scheduler": job.scheduler,
        "clipstopatlayer": job.clip_stop_at_layer,
        "nopreviews": not job.previews,
    }
    if job.variation_seed is not None:
        wanted |= {"variationseed": job.variation_seed, "variationseedstrength": job.variation_strength}
    wanted |= _media(job)
    extra = {key: data_url(value) if isinstance(value, bytes) else value for key, value in job.extra.items()}
    control = {"images": 1, "donotsave": True, "exactbackendid": str(remote_id), "forwardswarmdata": True}
    control |= {"forwardrawbackenddata": True} if job.forward_raw else {}
    return {key: value for key, value in {**extra, **wanted}.items() if value is not None} | control


def raw_frame(said: Mapping[str, Any]) -> RawFrame | None:
    """What the engine of a server there said, if that is what this is."""
    kind, data = text(said.get("type"), 40), said.get("data")
    if not kind or not isinstance(data, str) or len(data) > MAX_RAW:
        return None
    try:
        return RawFrame(kind, b64decode(data, validate=True))
    except ValueError:
        return None
