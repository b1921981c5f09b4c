"""Requests in the making, as their clients follow them."""
