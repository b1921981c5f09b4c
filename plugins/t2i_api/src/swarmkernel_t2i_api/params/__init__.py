"""The parameters of a generation: what they are, how they are read, what comes of them."""
