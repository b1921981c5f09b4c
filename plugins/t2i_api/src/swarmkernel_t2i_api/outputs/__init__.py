"""Pictures: encoded in the worker, named, written to the output folder, and served from it."""
