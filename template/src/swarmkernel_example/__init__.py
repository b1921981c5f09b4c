"""A backend type for SwarmKernel that paints patterns."""
