import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kgen.toolchain import fetch
from tests.toolchain.fake_archive import FakeArchive, Key


@pytest.fixture
def archive() -> Iterator[FakeArchive]:
    served = FakeArchive()
    yield served
    served.close()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow at once, and this machine's proxies are not asked."""
    monkeypatch.setattr(fetch, "_PAUSE_S", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture(scope="session")
def key() -> Iterator[Key]:
    # gpg's agent socket must have a short path (108 bytes), which pytest's own folders may not have
    folder = Path(tempfile.mkdtemp(prefix="kg-"))
    made = Key.make(folder, "archive")
    if made is None:
        pytest.skip("needs gpg and gpgv to make a throwaway key")
    yield made
    made.close()
    shutil.rmtree(folder, ignore_errors=True)
