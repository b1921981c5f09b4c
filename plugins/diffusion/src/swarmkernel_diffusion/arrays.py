"""The two functions that array libraries spell differently; all else in this package is operators."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import attrs
import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = Any
"""A NumPy array, a torch tensor, or anything else with NumPy's operators, slicing and `reshape`."""


@attrs.frozen
class Arrays:
    """How an engine moves host data to its device and joins arrays there.

    For torch: `Arrays(lambda a: torch.from_numpy(a).to(device), torch.cat)`.
    """

    asarray: Callable[[NDArray[np.float32]], Array]
    """A host array, float32 and contiguous, as an array of the engine's kind on its device."""
    concat: Callable[[Sequence[Array]], Array]
    """Several arrays joined along their first axis."""


NUMPY = Arrays(np.asarray, np.concatenate)
"""Plain NumPy on the host, as the ONNX engine uses it."""
