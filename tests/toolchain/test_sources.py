from pathlib import Path

import pytest

from kgen.errors import ToolchainError
from kgen.toolchain.sources import Source, find_archives, machine_sources, parse_deb822, parse_one_line

ONE_LINE = """\
# deb http://old.example.org/debian buster main
deb http://mirror.example.org/debian/ bookworm main contrib   # a remark
deb-src http://mirror.example.org/debian bookworm main
deb [arch=amd64 signed-by=/keys/a.gpg,/keys/b.gpg] https://security.example.org/debian-security bookworm-security main
"""
DEB822 = """\
Types: deb deb-src
URIs: http://mirror.example.org/debian
Suites: trixie
 trixie-updates
# a remark in the middle
Components: main
Signed-By: /usr/share/keyrings/some.gpg

Enabled: no
Types: deb
URIs: http://off.example.org/debian
Suites: trixie

Types: deb-src
URIs: http://source.example.org/debian
Suites: trixie

Types: deb
URIs: http://security.example.org/debian-security
Suites: trixie-security
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEYCQjIxYJKwYBBAHaRw8BAQdAD/P5Nvvnvk66SxBBHDbhRml9ORg1WV5CvzKY
 -----END PGP PUBLIC KEY BLOCK-----
"""


def test_one_line_sources_are_read():
    assert list(parse_one_line(ONE_LINE)) == [
        Source("http://mirror.example.org/debian", ("bookworm",)),
        Source("https://security.example.org/debian-security", ("bookworm-security",), ("/keys/a.gpg", "/keys/b.gpg")),
    ]


def test_deb822_sources_are_read():
    first, second = parse_deb822(DEB822)
    assert first == Source(
        "http://mirror.example.org/debian", ("trixie", "trixie-updates"), ("/usr/share/keyrings/some.gpg",)
    )
    assert second == Source("http://security.example.org/debian-security", ("trixie-security",))
    assert second.is_security


def test_files_that_apt_ignores_are_ignored(tmp_path):
    folder = tmp_path / "sources.list.d"
    folder.mkdir()
    (tmp_path / "sources.list").write_text("deb http://a.example.org/debian bookworm main\n")
    (folder / "b.list").write_text("deb http://b.example.org/debian bookworm main\n")
    (folder / "c.list.disabled").write_text("deb http://c.example.org/debian bookworm main\n")
    (folder / "d.sources").write_text("Types: deb\nURIs: cdrom:[disc]/\nSuites: bookworm\n")
    assert [source.url for source in machine_sources(tmp_path)] == [
        "http://a.example.org/debian",
        "http://b.example.org/debian",
    ]


def test_a_mirror_list_is_followed(tmp_path):
    mirrors = tmp_path / "mirrors.list"
    mirrors.write_text("# cloud image\nhttps://cloud.example.org/debian priority:1\nhttps://other.example.org/debian\n")
    (tmp_path / "sources.list").write_text(f"deb mirror+file:{mirrors} trixie main\n")
    assert [source.url for source in machine_sources(tmp_path)] == ["https://cloud.example.org/debian"]


def test_a_machine_without_sources_has_none(tmp_path):
    assert machine_sources(tmp_path / "nowhere") == []


def test_main_and_security_are_told_apart():
    archives = find_archives(sources=list(parse_one_line(ONE_LINE)))
    assert archives.base("main") == "http://mirror.example.org/debian"
    assert archives.base("security") == "https://security.example.org/debian-security"
    assert not archives.guessed
    assert archives.keyrings == (Path("/keys/a.gpg"), Path("/keys/b.gpg"))


def test_security_is_looked_for_beside_main_when_it_is_not_named():
    archives = find_archives(sources=[Source("http://mirror.example.org/debian", ("bookworm",))])
    assert archives.security == "http://mirror.example.org/debian-security"
    assert archives.guessed


def test_options_win_over_the_machine():
    archives = find_archives("http://mine.example.org/debian/", sources=list(parse_one_line(ONE_LINE)))
    assert (archives.main, archives.security) == (
        "http://mine.example.org/debian",
        "http://mine.example.org/debian-security",
    )
    named = find_archives("http://mine.example.org/debian", "http://sec.example.org/s", sources=[])
    assert (named.security, named.guessed) == ("http://sec.example.org/s", False)


def test_a_machine_that_is_not_debian_is_told_what_to_give():
    other = [Source("http://archive.example.org/ubuntu", ("noble", "noble-updates"))]
    with pytest.raises(ToolchainError, match=r"(?s)archive\.example\.org.*--archive URL"):
        find_archives(sources=other)


def test_an_address_of_an_unknown_kind_is_refused():
    with pytest.raises(ToolchainError, match="expected an http, https or file URL"):
        find_archives("ftp://mirror.example.org/debian", sources=[])
