"""Masked pictures: latents that are held to what they were while the others are sampled."""

import attrs

from swarmkernel_diffusion.arrays import Array


@attrs.frozen(eq=False)
class Held:
    """What one masked row is held to; every array has shape (1, *the latent's) or one that broadcasts to it.

    Where `mask` is 0, the row is at every sigma that it visits the clean latent `keep` with the row's own noise of that
    sigma, and where it is 1 what the sampler makes it; so the network sees both at one noise level, and the last
    sigma, 0, leaves `keep` itself. This is the blend of RePaint (arXiv:2201.09865, equation 8) and blended latent
    diffusion (arXiv:2206.02779), with one noise for all steps, as in diffusers' inpainting pipelines.
    """

    mask: Array
    keep: Array
    noise: Array

    def blend(self, x: Array, sigma: Array | float) -> Array:
        """The row x where the mask is 1, what is kept at noise level `sigma` where it is 0."""
        return x * self.mask + (self.keep + self.noise * sigma) * (1 - self.mask)
