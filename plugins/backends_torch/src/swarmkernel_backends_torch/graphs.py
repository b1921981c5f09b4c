"""A model's networks as graphs: what goes in and comes out of each, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs
import torch
from diffusers.models.attention_processor import AttnProcessor

from swarmkernel_backends_torch.loading import Parts, scale_of

Axes = tuple[str | int, ...]


@attrs.frozen
class Size:
    """How large an example is: *pieces* of 77 tokens, *height* and *width* in latents."""

    batch: int
    height: int
    width: int
    pieces: int


#: Odd sides: the UNet then hands sizes from its way down to its way up, as a graph for any size has to.
TRACED = Size(2, 13, 19, 2)
#: Other sizes, even and odd, to compare on.
COMPARED = (Size(1, 16, 8, 1), Size(3, 11, 20, 2))


@attrs.frozen(eq=False)
class Graph:
    """
    One network.

    *folder* is where it lies in a diffusers folder. The arguments of *module* are *inputs*: for each its axes, of
    which names are free and numbers fixed, and its kind (``noise``, ``tokens``, ``time`` or ``sizes``).
    """

    folder: str
    module: torch.nn.Module
    inputs: dict[str, tuple[str, Axes]]
    outputs: tuple[str, ...]
    free: dict[str, Axes]
    dtype: torch.dtype
    config: str
    scale: int = 1
    vocabulary: int = 0

    def example(self, size: Size) -> tuple[torch.Tensor, ...]:
        """Random inputs of that size, the same ones every time."""
        generator = torch.Generator().manual_seed(size.batch)
        lengths = {
            "batch": size.batch,
            "height": size.height * self.scale,
            "width": size.width * self.scale,
            "length": size.pieces * 77,
        }
        return tuple(
            self._random(kind, tuple(lengths[a] if isinstance(a, str) else a for a in axes), generator)
            for kind, axes in self.inputs.values()
        )

    def _random(self, kind: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
        if kind == "tokens":
            return torch.randint(self.vocabulary, shape, generator=generator)
        if kind == "time":
            return torch.rand(shape, generator=generator) * 999
        if kind == "sizes":
            return torch.randint(64, 1024, shape, generator=generator).float()
        return torch.randn(shape, generator=generator).to(self.dtype)

    @property
    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """The free axes of every input and output, as the exporter wants them."""
        axes = {name: axes for name, (_, axes) in self.inputs.items()} | self.free
        return {
            name: {n: axis for n, axis in enumerate(found) if isinstance(axis, str)}
            for name, found in axes.items()
        }


def graphs_of(parts: Parts) -> Iterator[Graph]:
    """Every network of a model, with attention in plain steps: fused, it is not exported rightly in float16."""
    for network in (parts.unet, parts.vae):
        network.set_attn_processor(AttnProcessor())
    for tower in parts.towers:
        tower.encoder.set_attn_implementation("eager")
    for n, tower in enumerate(parts.towers):
        yield _text(f"text_encoder{f'_{n + 1}' if n else ''}", tower.encoder)
    yield _unet(parts)
    yield from _vae(parts)


class _Network(torch.nn.Module):  # type: ignore[misc]  # torch is not followed
    """A network as the exporter wants it: *run* takes it and plain inputs, and gives plain outputs."""

    def __init__(self, network: Any, run: Callable[..., Any]) -> None:
        super().__init__()
        self.network, self.run = network, run

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.run(self.network, *inputs)


def _run_text(encoder: Any, input_ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The last state with the final norm, what is pooled, and the states of all layers without norm."""
    found = encoder(input_ids, output_hidden_states=True)
    pooled = found.text_embeds if hasattr(found, "text_embeds") else found.pooler_output
    return found.last_hidden_state, pooled, *found.hidden_states


def _text(folder: str, encoder: Any) -> Graph:
    config = encoder.config
    pooled = "text_embeds" if hasattr(encoder, "text_projection") else "pooler_output"
    states = tuple(f"hidden_states.{n}" for n in range(config.num_hidden_layers + 1))
    outputs = ("last_hidden_state", pooled, *states)
    return Graph(
        folder,
        _Network(encoder, _run_text),
        {"input_ids": ("tokens", ("batch", config.max_position_embeddings))},
        outputs,
        dict.fromkeys(outputs, ("batch",)),
        encoder.dtype,
        config.to_json_string(),
        vocabulary=config.vocab_size,
    )


def _run_unet(
    unet: Any, sample: torch.Tensor, timestep: torch.Tensor, tokens: torch.Tensor, *added: torch.Tensor
) -> Any:
    """The prediction; SDXL's further conditions are plain inputs."""
    further = dict(zip(("text_embeds", "time_ids"), added, strict=True)) if added else None
    return unet(sample, timestep, tokens, added_cond_kwargs=further, return_dict=False)[0]


def _unet(parts: Parts) -> Graph:
    unet = parts.unet
    inputs: dict[str, tuple[str, Axes]] = {
        "sample": ("noise", ("batch", unet.config.in_channels, "height", "width")),
        "timestep": ("time", ("batch",)),
        "encoder_hidden_states": ("noise", ("batch", "length", unet.config.cross_attention_dim)),
    }
    if parts.family == "sdxl":
        pooled = parts.towers[-1].encoder.config.projection_dim
        inputs |= {"text_embeds": ("noise", ("batch", pooled)), "time_ids": ("sizes", ("batch", 6))}
    free = {"out_sample": inputs["sample"][1]}
    return Graph(
        "unet", _Network(unet, _run_unet), inputs, ("out_sample",), free, unet.dtype, unet.to_json_string()
    )


def _run_decoder(vae: Any, latent_sample: torch.Tensor) -> Any:
    return vae.decode(latent_sample, return_dict=False)[0]


def _run_encoder(vae: Any, sample: torch.Tensor) -> Any:
    return vae.encode(sample, return_dict=False)[0].parameters


def _vae(parts: Parts) -> Iterator[Graph]:
    """The VAE's two halves; the encoder gives mean and log variance, one after the other."""
    vae = parts.vae
    picture: Axes = ("batch", 3, "height", "width")
    latents: Axes = ("batch", vae.config.latent_channels, "height", "width")
    yield Graph(
        "vae_decoder",
        _Network(vae, _run_decoder),
        {"latent_sample": ("noise", latents)},
        ("sample",),
        {"sample": picture},
        vae.dtype,
        vae.to_json_string(),
    )
    yield Graph(
        "vae_encoder",
        _Network(vae, _run_encoder),
        {"sample": ("noise", picture)},
        ("latent_parameters",),
        {"latent_parameters": latents},
        vae.dtype,
        vae.to_json_string(),
        scale=scale_of(vae),
    )
