"""``make bench``: print what the kernel costs, what batching gains and what an installation takes on disk."""

from benchmarks.batching import batching
from benchmarks.sizes import sizes
from benchmarks.startup import startup


def main() -> None:
    """Print one line per measurement."""
    seconds, mebibytes = startup()
    print(f"kernel alone, start to first answer   {seconds:6.2f} s    (goal < 0.5)")
    print(f"kernel alone, resident memory         {mebibytes:6.1f} MiB  (goal < 60)")
    gain = batching()
    if gain is None:
        print("batching: skipped, backends_torch and starter_model are not both installed")
    else:
        print(f"one by one                            {gain.alone:6.2f} images/s")
        print(f"8 at once, one continuous batch       {gain.together:6.2f} images/s")
        print(f"ratio                                 {gain.together / gain.alone:6.2f}")
    found = sizes()
    for choice, size in found.items():
        print(f"on disk, {choice:28} {size.megabytes:6} MB   ({size.packages} packages)")
    print(
        f"ratio, ONNX to torch                  {found['with ONNX'].bytes / found['with torch'].bytes:6.2f}"
    )


if __name__ == "__main__":
    main()
