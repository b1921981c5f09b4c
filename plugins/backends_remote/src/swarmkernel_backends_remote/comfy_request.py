"""The graph for a job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from swarmkernel_backends_remote.comfy_catalogue import Catalogue
from swarmkernel_backends_remote.comfy_graph import put_together
from swarmkernel_backends_remote.errors import PeerError
from swarmkernel_t2i_api import ImageJob

#: What the node that blurs can do at most.
_BLUR_RADIUS = 31
_BLUR_SIGMA = 10.0


def graph_of(job: ImageJob, catalogue: Catalogue, files: Mapping[str, str]) -> dict[str, Any]:
    """The graph that makes a job's picture. `files` are the uploaded ones, as `init_image` and `mask_image`."""
    if job.variation_seed is not None:
        raise PeerError("ComfyUI by URL cannot blend in a variation seed.", "not_supported")
    if job.model is None:
        raise PeerError("ComfyUI needs a model to be chosen.", "model_not_found")
    _check_choice(catalogue, "sampler_name", job.sampler)
    _check_choice(catalogue, "scheduler", job.scheduler)
    values = _values(job, catalogue.native("Stable-Diffusion", job.model))
    return put_together(
        (catalogue.need(name), {**values, **own}) for name, own in _parts(job, catalogue, files)
    )


def _check_choice(catalogue: Catalogue, name: str, wanted: str) -> None:
    options = catalogue.options("KSampler", name)
    if options and wanted not in options:
        told = f"This ComfyUI has no {name.removesuffix('_name')} {wanted[:80]}."
        raise PeerError(f"{told} It has {', '.join(options[:60])}.", "not_supported")


def _values(job: ImageJob, model: str) -> dict[str, Any]:
    return {
        "model": model,
        "prompt": job.prompt,
        "negative_prompt": job.negative_prompt,
        "width": job.width,
        "height": job.height,
        "seed": job.seed,
        "steps": job.steps,
        "cfg_scale": job.cfg_scale,
        "sampler": job.sampler,
        "scheduler": job.scheduler,
        "denoise": 1.0 if job.init_image is None else job.init_creativity,
    }


def _parts(
    job: ImageJob, catalogue: Catalogue, files: Mapping[str, str]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "checkpoint", {}
    for use in job.loras:
        yield "lora", {"lora": catalogue.native("LoRA", use.name), "lora_weight": use.weight}
    if job.clip_stop_at_layer is not None:
        yield "clip_stop", {"clip_stop": job.clip_stop_at_layer}
    if job.vae is not None:
        yield "vae", {"vae": catalogue.native("VAE", job.vae)}
    yield from _latents(job, files)
    yield "sample", {}
    if job.mask_image is not None:
        yield "keep_unmasked", {}
    yield "save", {}


def _latents(job: ImageJob, files: Mapping[str, str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if job.init_image is None:
        yield "empty", {}
        return
    yield "init_image", files
    if job.mask_image is not None:
        yield "mask_image", files
        if job.mask_blur > 0:
            radius, sigma = min(_BLUR_RADIUS, job.mask_blur), min(_BLUR_SIGMA, job.mask_blur / 2)
            yield "mask_blur", {"blur_radius": radius, "blur_sigma": sigma}
        yield "inpaint", {}
