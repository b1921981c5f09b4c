"""The recipe of the starter model: draw, encode, warm up, train, assemble, evaluate (see README.md)."""
