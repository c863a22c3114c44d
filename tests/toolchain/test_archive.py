import contextlib
import random
import shutil

import pytest

from kgen.errors import ToolchainError
from kgen.toolchain import archive as signed
from kgen.toolchain.archive import Index, machine_verifier, major_of, parse_packages, split_clearsigned, version_key
from tests.toolchain.fake_archive import Key, plain_verify


def test_versions_are_ordered_as_dpkg_orders_them():
    rising = [
        "1.0~rc1-1",
        "1.0-1",
        "1.0-1+deb12u1",
        "1.0-2",
        "1.0.1-1",
        "1.9-1",
        "1.10-1",
        "2.41-12+deb13u3",
        "2.41-12+deb13u4",
        "1:0.1",
    ]
    assert sorted(random.Random(0).sample(rising, len(rising)), key=version_key) == rising


def test_the_major_version_leaves_epoch_and_rest_out():
    assert [major_of(v) for v in ("1:22.1.8-1~deb12u1", "7.2.4+dfsg-1~exp1", "72.1-3", "4.8.12-3.1")] == [
        "22",
        "7",
        "72",
        "4",
    ]


def test_packages_files_are_read_and_half_stanzas_are_not():
    text = "Package: a\nVersion: 1-1\nInstalled-Size: 9\nFilename: p/a.deb\nSize: 5\nSHA256: ab\n\nPackage: b\nVersion: 2\n"
    assert [(p.name, p.size) for p in parse_packages(text)["a"]] == [("a", 5)]
    assert "b" not in parse_packages(text)


def test_the_newest_version_of_the_wanted_major_is_taken(archive):
    packages = [
        archive.add("clang", version, {"./a": version.encode()}) for version in ("1:22.1-1", "1:22.10-1", "1:23.1-1")
    ]
    archive.publish("suite", packages)
    index = Index(plain_verify)
    assert index.find(archive.url, "suite", "clang", "22").version == "1:22.10-1"
    assert index.find(archive.url, "suite", "clang").version == "1:23.1-1"
    with pytest.raises(ToolchainError, match=r"has no clang 21 \(found: 1:22.1-1, 1:22.10-1, 1:23.1-1\)"):
        index.find(archive.url, "suite", "clang", "21")
    with pytest.raises(ToolchainError, match=r"has no gcc \(found: nothing\)"):
        index.find(archive.url, "suite", "gcc")


def test_an_index_file_that_the_signature_does_not_cover_is_refused(archive):
    archive.publish("suite", [archive.add("a", "1", {"./a": b"a"})])
    path = next(path for path in archive.files if "by-hash" in path)
    archive.files[path] = archive.files[path][:-8] + b"tampered"
    with pytest.raises(ToolchainError, match="refused: its SHA256 is not the one in the signed index"):
        Index(plain_verify).find(archive.url, "suite", "a")


def test_a_date_that_has_passed_is_noted_and_no_error(archive):
    archive.publish("old", [archive.add("a", "1", {"./a": b"a"})], extra="Valid-Until: Fri, 06 Nov 2020 08:08:01 UTC\n")
    index = Index(plain_verify)
    assert index.find(archive.url, "old", "a").version == "1"
    assert len(index.notes) == 1
    assert "its date has passed" in index.notes[0]


def test_a_good_signature_gives_the_signed_text(key):
    text = b"Suite: one\n- dashed line\n"
    assert machine_verifier([key.keyring])(key.sign(text), "somewhere").strip() == text.strip()


def test_text_that_was_altered_after_signing_is_refused(key):
    altered = key.sign(b"Suite: one\n").replace(b"Suite: one", b"Suite: two")
    with pytest.raises(ToolchainError, match="refused: its signature is not one"):
        machine_verifier([key.keyring])(altered, "somewhere")


def test_text_outside_the_signature_is_not_believed(key):
    padded = b"Suite: evil\n" + key.sign(b"Suite: one\n") + b"Suite: evil\n"
    with contextlib.suppress(ToolchainError):  # refusing it altogether is as good
        assert b"evil" not in machine_verifier([key.keyring])(padded, "somewhere")


def test_a_key_that_the_keyring_lacks_is_refused(key, tmp_path):
    stranger = Key.make(key.home.parent, f"s{tmp_path.name[-6:]}")
    signed_file = stranger.sign(b"Suite: one\n")
    stranger.close()
    with pytest.raises(ToolchainError, match="refused"):
        machine_verifier([key.keyring])(signed_file, "somewhere")


def test_an_unsigned_file_is_refused(key):
    with pytest.raises(ToolchainError, match="refused"):
        machine_verifier([key.keyring])(b"Suite: one\n", "somewhere")


def test_an_armoured_keyring_will_do(key, tmp_path):
    armoured = tmp_path / "archive.asc"
    armoured.write_bytes(key._gpg("--armor", "--export").stdout)
    assert b"Suite: one" in machine_verifier([armoured])(key.sign(b"Suite: one\n"), "somewhere")


@pytest.mark.skipif(shutil.which("sqv") is None, reason="needs sqv")
def test_sqv_agrees_with_gpgv(key, monkeypatch):
    monkeypatch.setattr(signed.shutil, "which", lambda name, which=shutil.which: which(name) if name == "sqv" else None)
    verify = machine_verifier([key.keyring])
    good = key.sign(b"Suite: one\n- dashed\n\nend\n")
    assert b"- dashed" in verify(good, "somewhere")
    with pytest.raises(ToolchainError, match="refused"):
        verify(good.replace(b"one", b"two"), "somewhere")


def test_a_clear_signed_file_is_taken_apart_as_the_standard_says():
    signed_file = (
        b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n- -dash\nline  \n\n"
        b"-----BEGIN PGP SIGNATURE-----\n\nabc\n-----END PGP SIGNATURE-----\n"
    )
    text, signature = split_clearsigned(signed_file, "x")
    assert text == b"-dash\nline\n"
    assert signature.startswith(b"-----BEGIN PGP SIGNATURE")
    with pytest.raises(ToolchainError, match="not a clear-signed file"):
        split_clearsigned(b"evil\n" + signed_file, "x")


def test_no_keyring_and_no_program_are_said_with_their_cure(tmp_path, monkeypatch):
    with pytest.raises(ToolchainError, match="debian-archive-keyring"):
        machine_verifier([])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolchainError, match="install the package gpgv"):
        machine_verifier([tmp_path / "some.gpg"])
