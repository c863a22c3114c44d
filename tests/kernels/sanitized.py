"""A program for compute-sanitizer: `python -m tests.kernels.sanitized FOLDER SHARE` checks every SHARE-th kernel of a build folder.

Each buffer is an allocation of its own and ends where that ends, so that a checker of memory sees the first byte too many.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["PYTORCH_NO_CUDA_MEMORY_CACHING"] = "1"

from kgen.build.manifest import load_manifest
from kgen.runtime.cuda import CudaDriver
from kgen.verify.devices import GpuDevice
from kgen.verify.run import check_manifest


def main(folder: Path, share: int) -> int:
    """Number of wrong cases, at most 1."""
    names = [entry.name for entry in load_manifest(folder).kernels][::share]
    results = check_manifest(folder, GpuDevice(CudaDriver(0), behind=0), names=names)
    wrong = [result for result in results if not result.ok]
    print(f"{len(names)} kernels, {len(results)} cases, {len(wrong)} wrong")
    for result in wrong[:10]:
        print(result)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
