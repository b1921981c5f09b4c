"""How `swarmkernel export-onnx` ends when it is stopped, asked for twice at once, or told what cannot be."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from swarmkernel import StartupError
from swarmkernel_backends_torch.commands import export_onnx

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def exporting(model: Path, out: Path) -> subprocess.Popen[str]:
    """The command, which has begun to write."""
    command = [Path(sys.executable).with_name("swarmkernel"), "export-onnx", model, out]
    running = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Whoever runs tests in the background has them ignore SIGINT, and with them all that they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    assert running.stdout is not None
    assert any(line.startswith("unet") for line in running.stdout)
    return running


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_nothing(models: Any, tmp_path: Path, number: signal.Signals) -> None:
    """An export that is told to stop clears away what it wrote."""
    with exporting(models.folder("sd1"), tmp_path / "out") as running:
        assert [".out.part"] == [path.name for path in tmp_path.iterdir()]
        running.send_signal(number)
        running.communicate(timeout=60)
    assert running.returncode > 0
    assert [] == list(tmp_path.iterdir())


def test_two_exports_to_one_folder(models: Any, tmp_path: Path) -> None:
    """Of two exports to one OUT, the second says that there is another, and the first ends well."""
    out = tmp_path / "out"
    with exporting(models.folder("sd1"), out) as running:
        with pytest.raises(StartupError, match="another export writes"):
            CliRunner().invoke(export_onnx, [str(models.folder("sd1")), str(out)], catch_exceptions=False)
        assert f"wrote {out}" == running.communicate()[0].splitlines()[-1]
    assert (0, [out]) == (running.returncode, list(tmp_path.iterdir()))


def test_a_folder_says_what_it_predicts(models: Any, tmp_path: Path) -> None:
    """--prediction is refused for a folder, whose own files say it."""
    args = [str(models.folder("sd1")), str(tmp_path / "out"), "--prediction", "v_prediction"]
    with pytest.raises(StartupError, match="--prediction is for single files"):
        CliRunner().invoke(export_onnx, args, catch_exceptions=False)
    assert [] == list(tmp_path.iterdir())
