"""The starter model: a Stable Diffusion 1.x shaped model of 11 MB that ships inside this package."""
