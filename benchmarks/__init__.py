"""Measurements of the whole server: real processes, real requests."""
