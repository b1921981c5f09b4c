"""Makes the recipe importable: it stands beside the package and is not installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "plugins/starter_model"))
