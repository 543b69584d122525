"""Members of zips, read where they lie: by threads and forks, past junk and evil names, and never damaged."""

import os
import stat
import struct
import unicodedata
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from lntune.data.archives import BadMemberError, Members, write_zip
from lntune.errors import UserError
from made_up import MADE_UP


def packed(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip as other programs write it."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return path


def listed(content: bytes) -> int:
    """Where the list of a zip's members begins."""
    return content.index(b"PK\1\2")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_come_in_the_archives_order_with_their_bytes(tmp_path: Path, method: int) -> None:
    members = {f"folder/{k}.jpg": os.urandom(k * 100) + bytes(k * 100) for k in (3, 1, 2, 0)}
    archive = Members(packed(tmp_path / "a.zip", members, method))
    assert archive.names() == list(members)
    assert {name: archive.read(name) for name in members} == members
    assert "folder/1.jpg" in archive.names() and "1.jpg" not in archive.names()
    with pytest.raises(KeyError):
        archive.read("1.jpg")


def test_an_archive_behind_other_bytes_and_with_64_bit_fields_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive, archive.open("b.jpg", "w", force_zip64=True) as file:
        file.write(b"picture")
    assert Members(path).read("b.jpg") == b"picture"
    path.write_bytes(b"#!/bin/sh\n" + path.read_bytes())
    assert Members(path).read("b.jpg") == b"picture"


def test_threads_and_forks_read_at_the_same_time(tmp_path: Path) -> None:
    members = {f"{k}.jpg": os.urandom(3000) * (k + 1) for k in range(40)}
    archive = Members(packed(tmp_path / "a.zip", members))
    asked = list(members) * 25
    children = []
    for start in (0, 13):
        child = os.fork()
        if child == 0:
            right = all(archive.read(name) == members[name] for name in asked[start:])
            os._exit(0 if right else 1)
        children.append(child)
    with ThreadPoolExecutor(8) as pool:
        assert all(content == members[name] for name, content in zip(asked, pool.map(archive.read, asked), strict=True))
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]


def test_what_macos_adds_and_folders_are_no_members(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    junk = ("a/", "__MACOSX/a/._1.jpg", "__MACOSX/._a", "a/.DS_Store", ".DS_Store", "a/._1.jpg")
    archive = Members(packed(tmp_path / "a.zip", {**dict.fromkeys(junk, b""), "a/1.jpg": b"picture"}))
    assert archive.names() == ["a/1.jpg"]
    assert capsys.readouterr().err == ""


EVIL = ("/etc/passwd", "../up.jpg", "a/../../up.jpg", "C:/windows.jpg", "c:here.jpg", "a\\..\\up.jpg", "..")


def test_names_that_lead_out_and_links_are_left_out_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = packed(tmp_path / "a.zip", {**dict.fromkeys(EVIL, b"evil"), "a/..b.jpg": b"good", "a/b..jpg": b"good"})
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("link.jpg")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    members = Members(path)
    assert members.names() == ["a/..b.jpg", "a/b..jpg"]
    for name in (*EVIL, "link.jpg"):
        with pytest.raises(KeyError):
            members.read(name)
    said = capsys.readouterr().err
    assert said == (
        f"warning: {path}: {len(EVIL) + 1} members left out, which are links or lead out of the archive's folder; "
        f"first: '/etc/passwd'\n"
    )
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zip"]


def test_a_name_with_a_zero_byte_is_left_out(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", {"a.jpg_.exe": b"evil", "b.jpg": b"good"})
    path.write_bytes(path.read_bytes().replace(b"a.jpg_.exe", b"a.jpg\0.exe"))
    assert Members(path).names() == ["b.jpg"]


def damaged(path: Path, at: int, new: bytes) -> Members:
    content = bytearray(path.read_bytes())
    content[at : at + len(new)] = new
    path.write_bytes(content)
    return Members(path)


def test_a_damaged_member_is_refused(tmp_path: Path) -> None:
    def fresh(method: int = zipfile.ZIP_DEFLATED) -> Path:
        return packed(tmp_path / "a.zip", {"b.jpg": b"picture" * 100}, method)

    at = listed(fresh().read_bytes())
    with pytest.raises(BadMemberError, match=r"its bytes are not those that were packed \(CRC\)"):
        damaged(fresh(zipfile.ZIP_STORED), 40, b"X").read("b.jpg")
    with pytest.raises(BadMemberError, match=r"Error -3 while decompressing data|CRC"):
        damaged(fresh(), 40, b"\xff\xff\xff").read("b.jpg")
    with pytest.raises(BadMemberError, match=r"^encrypted$"):
        damaged(fresh(), at + 8, b"\1").read("b.jpg")
    with pytest.raises(BadMemberError, match=r"^compressed by method 14, not deflate$"):
        damaged(fresh(), at + 10, b"\x0e").read("b.jpg")
    with pytest.raises(BadMemberError, match="no member begins where the archive's list says"):
        damaged(fresh(), 0, b"XX").read("b.jpg")
    with pytest.raises(BadMemberError, match=r"^2147483648 bytes when unpacked$"):
        damaged(fresh(), at + 24, struct.pack("<I", 1 << 31)).read("b.jpg")
    archive = damaged(fresh(), at + 24, struct.pack("<I", 10))  # unpacks to more than it declares
    with pytest.raises(BadMemberError, match="CRC"):
        archive.read("b.jpg")
    with pytest.raises(UserError, match=r"a\.zip: member b\.jpg cannot be read \(.*CRC.*\); download it again$"):
        archive.read_or_refuse("b.jpg")
    with pytest.raises(UserError, match=r"a\.zip: has no member c\.jpg$"):
        archive.read_or_refuse("c.jpg")


def test_what_is_no_zip_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.zip: no such archive; download it$"):
        Members(tmp_path / "none.zip")
    whole = packed(tmp_path / "a.zip", {"b.jpg": b"picture"}).read_bytes()
    for content in (b"", b"text", whole[:-5], whole.replace(b"PK\1\2", b"PKXX")):
        (tmp_path / "a.zip").write_bytes(content)
        with pytest.raises(UserError, match=r"a\.zip: not a readable zip \(.*\); download it again$"):
            Members(tmp_path / "a.zip")
    with pytest.raises(UserError, match=r"not a readable zip \(.*Is a directory"):
        Members(tmp_path)
    (tmp_path / "a.zip").write_bytes(whole[listed(whole) :])  # its beginning is lost
    with pytest.raises(BadMemberError, match="no member begins where the archive's list says"):
        Members(tmp_path / "a.zip").read("b.jpg")


def test_the_one_member_of_a_name(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", [("x/one.json", b""), ("two.json", b""), ("y/two.json", b"")])
    archive = Members(tmp_path / "a.zip")
    assert archive.only("one.json") == "x/one.json"
    with pytest.raises(UserError, match=r"a\.zip: holds 2 members called two\.json instead of one$"):
        archive.only("two.json")
    with pytest.raises(UserError, match=r"a\.zip: holds 0 members called three\.json instead of one$"):
        archive.only("three.json")


# --- names -----------------------------------------------------------------------------------------------------------

NAMES = some.text(some.characters(codec="utf-8", exclude_characters="\0/\\:"), min_size=1, max_size=12)


def unflagged(path: Path, name: bytes, content: bytes = b"picture") -> Path:
    """A zip with one member, the bytes of whose name are of no encoding that it names."""
    packed(path, {"x" * len(name): content})
    path.write_bytes(path.read_bytes().replace(b"x" * len(name), name))
    return path


@given(names=some.lists(NAMES, min_size=1, max_size=4), asked=some.sampled_from(["NFC", "NFD"]))
@MADE_UP
def test_every_name_is_found_in_any_form(
    names: list[str], asked: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    wanted = {unicodedata.normalize("NFC", f"a/{name}é.jpg"): name.encode() for name in names}
    members = {unicodedata.normalize(("NFC", "NFD")[k % 2], name): wanted[name] for k, name in enumerate(wanted)}
    path = packed(tmp_path_factory.getbasetemp() / "names.zip", members)
    archive = Members(path)
    with zipfile.ZipFile(path) as official:
        for name in archive.names():
            (theirs,) = [one for one in members if unicodedata.normalize("NFC", one) == name]
            assert archive.read(unicodedata.normalize(asked, name)) == official.read(theirs)
    assert len(archive.names()) == len(members)


@given(stem=some.text(some.characters(min_codepoint=0xA0, codec="utf-8"), min_size=1, max_size=6))
@MADE_UP
def test_a_name_in_utf8_that_does_not_say_so_is_found(stem: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = unflagged(tmp_path_factory.getbasetemp() / "names.zip", f"a/{stem}.jpg".encode())
    assert Members(path).read(f"a/{stem}.jpg") == b"picture"


def test_a_name_in_code_page_437_is_found(tmp_path: Path) -> None:
    archive = Members(unflagged(tmp_path / "a.zip", "caf\u00e9 \u00b1.jpg".encode("cp437")))
    assert archive.names() == ["café ±.jpg"] and archive.read("cafe\u0301 ±.jpg") == b"picture"


@pytest.mark.parametrize("names", [("é.jpg", "e\u0301.jpg"), ("e\u0301.jpg", "é.jpg")])
def test_two_members_of_one_name_are_read_if_they_are_the_same(tmp_path: Path, names: tuple[str, str]) -> None:
    path = packed(tmp_path / "a.zip", dict.fromkeys(names, b"same"))
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr(names[0], b"same")
    assert Members(path).names() == ["é.jpg"] and Members(path).read(names[1]) == b"same"
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr(names[0], b"other")
        archive.writestr(names[0], b"same")
        archive.writestr("b.jpg", b"whole")
    for name in names:
        with pytest.raises(UserError, match=r"a\.zip: member .*\.jpg cannot be read \(another member has this name"):
            Members(path).read_or_refuse(name)
    assert Members(path).read("b.jpg") == b"whole"
