import gzip
import tarfile

import pytest

from kgen.errors import ToolchainError
from kgen.toolchain.deb import ar_members, unpack
from tests.toolchain.fake_archive import ar, deb_of


def put(tmp_path, data):
    path = tmp_path / "some.deb"
    path.write_bytes(data)
    return path


def unpacked(tmp_path, tree, **how):
    root = tmp_path / "root"
    root.mkdir()
    unpack(put(tmp_path, deb_of(tree)), root, **how)
    return root


def test_ar_members_are_found_with_odd_sizes(tmp_path):
    path = put(tmp_path, ar({"a": b"123", "b/": b"45", "c": b""}))
    with path.open("rb") as file:
        found = {name: (offset, size) for name, offset, size in ar_members(file)}
        assert {name: size for name, (_, size) in found.items()} == {"a": 3, "b": 2, "c": 0}
        file.seek(found["b"][0])
        assert file.read(2) == b"45"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PK\x03\x04 a zip", "not a Debian package"),
        (ar({"debian-binary": b"2.0\n"}), "holds no data.tar"),
        (deb_of({"./a": b"x" * 5000})[:-40], "cut short"),
        (b"!<arch>\n" + b"?" * 60, "damaged"),
        (ar({"data.tar.xz": b"\xfd7zXZ\x00 and then nonsense"}), "damaged"),
        (ar({"data.tar.zst": b"whatever"}), "cannot read"),
    ],
)
def test_a_file_that_is_no_package_is_refused_in_words(tmp_path, data, words):
    with pytest.raises(ToolchainError, match=words):
        unpack(put(tmp_path, data), tmp_path / "root")


def test_gzip_is_read_too(tmp_path):
    (tmp_path / "root").mkdir()
    unpack(put(tmp_path, deb_of({"./a/b": b"hello"}, suffix=".gz", pack=gzip.compress)), tmp_path / "root")
    assert (tmp_path / "root/a/b").read_bytes() == b"hello"


def test_files_go_where_they_are_placed_and_others_are_left_out(tmp_path):
    tree = {"./usr/bin/tool": b"tool", "./usr/share/doc/words": b"words"}
    root = unpacked(tmp_path, tree, place=lambda path: path.replace("usr/", "my/") if "bin" in path else None)
    assert [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()] == ["my/bin/tool"]
    assert (root / "my/bin/tool").stat().st_mode & 0o777 == 0o755


def test_links_follow_their_target_to_its_new_place(tmp_path):
    tree = {
        "./usr/lib/x86/libz.so.1.2": b"library",
        "./usr/lib/x86/libz.so.1": "libz.so.1.2",
        "./usr/lib/llvm/lib/libz.so": "../../x86/libz.so.1.2",
        "./usr/lib/llvm/lib/libz.so.1.2": "../../x86/libz.so.1.2",  # would become a link to itself
        "./usr/lib/x86/absolute.so": "/usr/lib/x86/libz.so.1",
        "./usr/lib/x86/left.so": "../../share/left-out",
    }
    root = unpacked(tmp_path, tree, place=lambda path: "flat/" + path.split("/")[-1] if "lib/" in path else None)
    for name in ("libz.so.1", "libz.so", "libz.so.1.2", "absolute.so"):
        assert (root / "flat" / name).read_bytes() == b"library", name
    assert not (root / "flat/left.so").is_symlink()


@pytest.mark.parametrize(
    "tree",
    [
        {"../evil": b"x"},
        {"./a/../../evil": b"x"},
        {"/etc/evil": b"x"},
        {"./link": "../../outside"},
        {"./dir/link": "../../../etc/passwd"},
    ],
)
def test_what_would_leave_the_folder_is_refused(tmp_path, tree):
    with pytest.raises(ToolchainError, match="refused"):
        unpacked(tmp_path, tree)
    assert not (tmp_path / "evil").exists()


def test_a_file_cannot_be_written_through_a_link(tmp_path):
    with pytest.raises(OSError, match="exist"):
        unpacked(tmp_path, {"./real": b"real", "./name": "real", "./name/": b""} | {"name": b"overwrites"})
    assert (tmp_path / "root/real").read_bytes() == b"real"


def test_devices_owners_and_set_id_bits_are_dropped(tmp_path):
    device = tarfile.TarInfo("./dev/null")
    device.type = tarfile.CHRTYPE
    root = unpacked(tmp_path, {"./dev/null": device, "./usr/bin/su": b"su"})
    assert not (root / "dev/null").exists()
    assert (root / "usr/bin/su").stat().st_mode & 0o7000 == 0


def test_a_hard_link_becomes_one(tmp_path):
    link = tarfile.TarInfo("./b")
    link.type, link.linkname = tarfile.LNKTYPE, "./a"
    root = unpacked(tmp_path, {"./a": b"same", "./b": link})
    assert (root / "b").samefile(root / "a")
