"""The parameters of a generation: what they are, how they are read, what comes of them."""

from swarmkernel_t2i_api.params.advanced import ADVANCED_PARAMS
from swarmkernel_t2i_api.params.core import CORE_PARAMS
from swarmkernel_t2i_api.params.init_image import INIT_IMAGE_PARAMS

PARAMS = CORE_PARAMS + INIT_IMAGE_PARAMS + ADVANCED_PARAMS
