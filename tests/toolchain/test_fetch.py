import hashlib

import pytest

from kgen.errors import ToolchainError
from kgen.toolchain.fetch import GoneError, MismatchError, fetch_bytes, fetch_file, join

DATA = bytes(range(256)) * 400
SHA = hashlib.sha256(DATA).hexdigest()


class Counter:
    def __init__(self):
        self.seen = 0

    def __call__(self, count):
        self.seen += count


def get(archive, goal, *, data=DATA, advance=lambda count: None):
    archive.files.setdefault("pool/file", data)
    return fetch_file(f"{archive.url}/pool/file", goal, len(DATA), SHA, advance)


def test_a_file_arrives_whole_and_is_counted(archive, tmp_path):
    counter = Counter()
    assert get(archive, tmp_path / "f", advance=counter).read_bytes() == DATA
    assert counter.seen == len(DATA)
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_part_of_an_earlier_run_is_continued(archive, tmp_path):
    (tmp_path / "f.part").write_bytes(DATA[:1000])
    counter = Counter()
    assert get(archive, tmp_path / "f", advance=counter).read_bytes() == DATA
    assert archive.asked == [("pool/file", "bytes=1000-")]
    assert counter.seen == len(DATA)


def test_a_broken_connection_is_taken_up_where_it_broke(archive, tmp_path):
    archive.cut["pool/file"] = 5000
    counter = Counter()
    assert get(archive, tmp_path / "f", advance=counter).read_bytes() == DATA
    assert [wanted for _, wanted in archive.asked] == [None, "bytes=5000-"]
    assert counter.seen == len(DATA)


def test_a_server_without_ranges_starts_again(archive, tmp_path):
    archive.ranges = False
    (tmp_path / "f.part").write_bytes(b"?" * 1000)
    counter = Counter()
    assert get(archive, tmp_path / "f", advance=counter).read_bytes() == DATA
    assert counter.seen == len(DATA)


@pytest.mark.parametrize("wrong", [DATA[:-1] + b"?", DATA + b"more"], ids=["altered", "longer"])
def test_a_file_that_differs_is_refused_and_not_kept(archive, tmp_path, wrong):
    counter = Counter()
    with pytest.raises(MismatchError, match=f"(?s)refused: expected {len(DATA)} bytes, SHA256 {SHA}; got"):
        get(archive, tmp_path / "f", data=wrong, advance=counter)
    assert list(tmp_path.iterdir()) == []
    assert counter.seen == 0


def test_a_file_that_stays_short_is_an_error_and_its_part_waits_for_the_next_run(archive, tmp_path):
    with pytest.raises(ToolchainError, match="could not be fetched"):
        get(archive, tmp_path / "f", data=DATA[:-100])
    assert not (tmp_path / "f").exists()
    archive.files["pool/file"] = DATA
    assert get(archive, tmp_path / "f").read_bytes() == DATA


def test_a_damaged_part_does_not_stay_in_the_way(archive, tmp_path):
    (tmp_path / "f.part").write_bytes(b"?" * 1000)
    with pytest.raises(MismatchError):
        get(archive, tmp_path / "f")
    assert get(archive, tmp_path / "f").read_bytes() == DATA


def test_a_file_that_is_there_and_right_is_not_fetched_again(archive, tmp_path):
    (tmp_path / "f").write_bytes(DATA)
    get(archive, tmp_path / "f")
    assert archive.asked == []


def test_a_missing_file_is_told_apart_from_a_broken_network(archive, tmp_path):
    with pytest.raises(GoneError, match="404"):
        fetch_file(f"{archive.url}/pool/none", tmp_path / "f", 1, SHA)
    with pytest.raises(GoneError):
        fetch_bytes(f"file://{tmp_path}/none")
    url = archive.url
    archive.close()
    with pytest.raises(ToolchainError, match=r"(?s)could not be fetched.*--archive URL") as caught:
        fetch_bytes(f"{url}/anything")
    assert not isinstance(caught.value, GoneError)


def test_a_large_answer_to_a_small_question_is_refused(archive):
    archive.files["big"] = bytes(1001)
    with pytest.raises(ToolchainError, match="larger than 1000 bytes"):
        fetch_bytes(f"{archive.url}/big", limit=1000)


def test_addresses_keep_the_signs_of_versions():
    assert (
        join("http://m.example.org/debian/", "/pool/a_1.0+dfsg-1~exp1.deb")
        == "http://m.example.org/debian/pool/a_1.0+dfsg-1~exp1.deb"
    )
