"""The cache of encoded prompts."""

import attrs
import numpy as np

from swarmkernel_diffusion import NUMPY, PromptEncoder

PIECE = 77


@attrs.define(eq=False)
class Counting(PromptEncoder):
    """Towers that are numbers, and prompts of as many pieces as they have words."""

    runs: list[str] = attrs.field(factory=list)

    def rows(self, tower, text):
        return [[tower] * PIECE for _ in text.split() or [""]]

    def run(self, tower, rows, layer, *, norm):
        self.runs.append(f"{tower} {len(rows)}")
        return np.full((len(rows) * PIECE, 2), tower, np.float32), None


def test_prompts_are_encoded_once():
    """A prompt that comes again is not encoded again, unless it is to be longer or memory was asked for."""
    encoder = Counting("sd1", [1, 2], NUMPY)
    for pieces in (1, 1, 2):
        assert (pieces * PIECE, 4) == encoder.encode("cat", pieces, None, (64, 64)).tokens.shape
    assert ["1 1", "2 1", "1 2", "2 2"] == encoder.runs
    encoder.forget()
    encoder.encode("cat", 1, None, (64, 64))
    assert ["1 1", "2 1"] == encoder.runs[4:]


def test_what_is_kept_is_bounded():
    """However long prompts are, no more than 128 pieces are kept, and the latest of them."""
    encoder = Counting("sd1", [1], NUMPY)
    prompts = [" ".join([f"cat{n}"] * 32) for n in range(6)]
    for prompt in prompts:
        encoder.encode(prompt, 32, None, (64, 64))
    for prompt in (prompts[5], prompts[2], prompts[1]):
        encoder.encode(prompt, 32, None, (64, 64))
    assert 7 == len(encoder.runs)
