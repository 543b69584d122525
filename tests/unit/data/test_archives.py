"""Members of zips, read where they lie: by threads and forks, past junk and evil names, and never damaged."""

import os
import stat
import struct
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lntune.data.archives import BadMemberError, Members, write_zip
from lntune.errors import UserError


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
    with pytest.raises(UserError, match=r"none\.zip: no such archive$"):
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
