"""A build in a process of its own, for tests that kill it or start two: `python -m tests.build.driver FOLDER TOOLS COUNT`."""

from __future__ import annotations

import sys
from pathlib import Path

from kgen.build import build
from kgen.errors import KgenError
from tests.build.fakes import ARCH, FakeTools, some_specs, use_fakes


def main(folder: str, fake: str, count: str) -> int:
    """Build; `waiting ...` and one line per finished kernel are printed as they happen, the exit code is the error's."""
    use_fakes()
    try:
        result = build(
            some_specs(int(count)),
            arch=ARCH,
            folder=Path(folder),
            tools=FakeTools(Path(fake)),
            jobs=2,
            progress=lambda done, total, name, left: print(done, total, name, flush=True),
            waiting=lambda words: print("waiting", words, flush=True),
        )
    except KgenError as error:
        print(type(error).__name__, error, flush=True)
        return error.exit_code
    print("compiled", result.compiled, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
