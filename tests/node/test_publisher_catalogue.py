"""What a publisher makes of a folder."""

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from pfn_node.archive import inspect
from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.publisher import SAMPLES, catalogue, packing
from pfn_node.publisher.catalogue import Catalogue, Listing, Offer
from pfn_node.publisher.packing import PackedFile, Unpackable, list_files, pack
from pfn_node.publisher.readme import Readme, parse_readme
from tests.node.zip_forge import HEADER, Forged, forge, main_file

PHP = "<?php\n/*\n * Plugin Name: {name}\n * Version: {version}\n * Description: From the header.\n */\n"


class Shelf:
    """A folder of plugins with its catalogue."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "plugins"
        self.folder.mkdir()
        self.artifacts = Artifacts(tmp_path / "artifacts", 0)
        self.artifacts.start()
        self.catalogue = Catalogue(self.folder, self.artifacts)

    def put(self, entry: str, version: str = "1.0", name: str = "Some Plugin", **files: str) -> Path:
        """A plugin folder; `files` by name, with __ for a dot."""
        folder = self.folder / entry
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "main.php").write_text(PHP.format(name=name, version=version))
        for file, text in files.items():
            (folder / file.replace("__", ".")).write_text(text)
        return folder

    def look(self) -> Listing:
        """What is offered once nothing changes any more."""
        self.look_twice()
        return self.catalogue.listing

    def look_twice(self) -> bool:
        """Whether the listing changed."""
        return any([self.catalogue.refresh(), self.catalogue.refresh()])

    def offer(self, slug: str, version: str | None = None) -> Offer:
        offer = self.look().find(slug, version)
        assert offer is not None, self.catalogue.listing.skipped
        return offer

    def files_of(self, offer: Offer) -> dict[str, str]:
        """The names and contents of an offer's zip."""
        opened = self.artifacts.open(offer.sha256)
        with os.fdopen(opened.fd, "rb") as file, zipfile.ZipFile(file) as archive:
            return {name: archive.read(name).decode() for name in archive.namelist()}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.mark.parametrize("author", ["juniper", "wren"])
def test_the_samples_are_offered_without_exception(shelf: Shelf, author: str) -> None:
    shutil.copytree(SAMPLES / author, shelf.folder, dirs_exist_ok=True)

    listing = shelf.look()

    assert listing.skipped == {}
    assert sum(len(offers) for offers in listing.offers.values()) == len(list((SAMPLES / author).iterdir()))
    assert any(len(offers) > 1 for offers in listing.offers.values())
    for offer in listing.current():
        assert offer.short_description
        assert offer.tags
        assert offer.readme.headers.get("stable tag", offer.version) == offer.version
        assert "changelog" in offer.readme.sections


def test_a_folder_becomes_a_zip_under_the_plugins_own_name(shelf: Shelf) -> None:
    shelf.put("My-Plugin-1.0", readme__txt="=== My Plugin ===\nTags: a, b\n\nShort.\n\n== FAQ ==\nNone.")

    offer = shelf.offer("my-plugin")

    assert (offer.version, offer.type, offer.name) == ("1.0", "plugin", "Some Plugin")
    assert (offer.short_description, offer.tags) == ("Short.", ("a", "b"))
    assert offer.readme.sections == {"faq": "None."}
    assert list(shelf.files_of(offer)) == ["my-plugin/main.php", "my-plugin/readme.txt"]


def test_the_same_files_give_the_same_zip_whenever_and_wherever(tmp_path: Path) -> None:
    digests = []
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        shelf = Shelf(tmp_path / str(number))
        folder = shelf.put("plugin", b__txt="b", a__txt="a")
        os.utime(folder / "a.txt", (number * 1000, number * 1000))
        (folder / "a.txt").chmod(0o600 + number)
        digests.append(shelf.offer("plugin").sha256)

    assert digests[0] == digests[1]


def test_a_finished_zip_is_offered_byte_for_byte(shelf: Shelf) -> None:
    data = forge([main_file(), Forged("forged/README.TXT", b"=== Forged ===\n\nIt is forged.\n")], comment=b"mine")
    (shelf.folder / "whatever.zip").write_bytes(data)

    offer = shelf.offer("forged")

    opened = shelf.artifacts.open(offer.sha256)
    with os.fdopen(opened.fd, "rb") as file:
        assert file.read() == data
    assert offer.short_description == "It is forged."


def test_a_single_file_is_packed_into_a_folder_as_wordpress_org_does(shelf: Shelf) -> None:
    (shelf.folder / "hello.php").write_text(PHP.format(name="Hello Dolly", version="1.7.2"))
    (shelf.folder / "other.php").write_text(
        PHP.format(name="Other", version="1").replace(" */", " * Text Domain: own-name\n */")
    )

    assert list(shelf.files_of(shelf.offer("hello-dolly"))) == ["hello-dolly/hello.php"]
    assert list(shelf.files_of(shelf.offer("own-name"))) == ["own-name/other.php"]
    assert shelf.offer("hello-dolly").short_description == "From the header."


def test_a_theme_is_a_theme_and_its_tags_come_from_its_style(shelf: Shelf) -> None:
    folder = shelf.folder / "paper-2.0"
    folder.mkdir()
    (folder / "style.css").write_text("/*\nTheme Name: Paper\nVersion: 2.0\nTags: blog, one-column, blog\n*/")

    offer = shelf.offer("paper")

    assert (offer.type, offer.tags) == ("theme", ("blog", "one-column"))


def test_versions_lie_side_by_side_and_the_newest_is_current(shelf: Shelf) -> None:
    for version in ("1.9", "1.10", "1.10-beta2"):
        shelf.put(f"plugin-{version}", version)

    listing = shelf.look()

    assert [offer.version for offer in listing.offers["plugin"]] == ["1.10", "1.10-beta2", "1.9"]
    assert [offer.version for offer in listing.current()] == ["1.10"]
    assert listing.find("plugin", "1.9") is not None
    assert listing.find("plugin", "2") is None
    assert listing.find("none") is None


def test_of_one_version_twice_the_first_counts_until_it_goes(shelf: Shelf) -> None:
    first, second = shelf.put("a-plugin", name="First"), shelf.put("plugin", name="Second")
    first.rename(shelf.folder / "plugin-1.0")
    second.rename(shelf.folder / "plugin-v1.0")

    assert shelf.offer("plugin").name == "First"
    assert "twice" in shelf.look().skipped["plugin-v1.0"]

    shutil.rmtree(shelf.folder / "plugin-1.0")
    assert "plugin/main.php" in shelf.files_of(shelf.offer("plugin"))
    assert shelf.offer("plugin").name == "Second"


def test_changes_are_seen_and_nothing_is_read_twice(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shelf.put("plugin")
    assert shelf.look_twice()
    old = shelf.offer("plugin")
    with monkeypatch.context() as patch:
        patch.setattr(catalogue, "pack", lambda *_: pytest.fail("an unchanged entry was packed again"))
        assert not shelf.look_twice()

    (folder / "main.php").write_text(PHP.format(name="Some Plugin", version="1.1"))
    assert shelf.look_twice()
    assert shelf.offer("plugin").version == "1.1"
    assert not shelf.artifacts.has(old.sha256)

    shutil.rmtree(folder)
    assert shelf.look_twice()
    assert shelf.look().offers == {}


def test_what_is_being_copied_is_offered_when_it_stays_as_it_is(shelf: Shelf) -> None:
    shelf.look()
    shelf.put("plugin", asset__js="half")
    assert not shelf.catalogue.refresh()
    shelf.put("plugin", asset__js="half and the other half")
    assert not shelf.catalogue.refresh()
    assert shelf.catalogue.refresh()
    assert shelf.files_of(shelf.catalogue.listing.current()[0])["plugin/asset.js"] == "half and the other half"

    shelf.put("plugin", "1.1", asset__js="half")
    assert not shelf.catalogue.refresh()
    shelf.put("plugin", "1.1", asset__js="the whole of it")
    assert not shelf.catalogue.refresh()
    assert shelf.catalogue.listing.current()[0].version == "1.0"
    assert shelf.catalogue.refresh()
    assert shelf.files_of(shelf.catalogue.listing.current()[0])["plugin/asset.js"] == "the whole of it"


def test_what_changes_while_it_is_packed_is_packed_again(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shelf.put("plugin", late__js="half")
    packed = list[str]()

    def copied_meanwhile(files: tuple[PackedFile, ...], top: str, target: IO[bytes]) -> None:
        pack(files, top, target)
        packed.append((folder / "late.js").read_text())
        (folder / "late.js").write_text("the whole of it")

    monkeypatch.setattr(catalogue, "pack", copied_meanwhile)
    assert not shelf.catalogue.refresh()
    monkeypatch.setattr(catalogue, "pack", pack)
    assert shelf.catalogue.refresh()

    assert packed == ["half"]
    assert shelf.files_of(shelf.catalogue.listing.current()[0])["plugin/late.js"] == "the whole of it"


def test_a_plugin_whose_files_are_replaced_under_the_eyes_stays_offered(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shelf.put("plugin", old__js="x")
    before = shelf.offer("plugin")

    def renamed_meanwhile(*_: object) -> None:
        (folder / "old.js").unlink(missing_ok=True)
        raise FileNotFoundError(2, "No such file or directory")

    with monkeypatch.context() as patch:  # between the name and the look at the file
        patch.setattr(catalogue, "_files_of", renamed_meanwhile)
        assert not shelf.catalogue.refresh()
    shelf.put("plugin", "1.1", old__js="y")
    assert not shelf.catalogue.refresh()
    with monkeypatch.context() as patch:  # while the files are packed
        patch.setattr(catalogue, "pack", renamed_meanwhile)
        assert not shelf.catalogue.refresh()
    assert shelf.artifacts.has(before.sha256)

    assert shelf.offer("plugin").version == "1.1"


def test_an_entry_that_cannot_be_stored_says_so_and_is_tried_again(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    shelf.put("plugin")
    with monkeypatch.context() as patch:
        patch.setattr(catalogue, "pack", full)
        for _ in range(4):
            shelf.catalogue.refresh()
            assert "No space left" in shelf.catalogue.listing.skipped["plugin"]

    assert shelf.catalogue.refresh()
    assert shelf.catalogue.listing.current()[0].version == "1.0"


@pytest.mark.parametrize(
    ("entry", "make", "sentence"),
    [
        ("notes.txt", lambda path: path.write_text("x"), "neither a plugin folder"),
        ("loose.php", lambda path: path.write_text("<?php"), "neither a plugin folder"),
        ("empty", lambda path: path.mkdir(), "the folder is empty"),
        ("bad.zip", lambda path: path.write_bytes(b"PK"), "does not begin with a zip entry"),
        ("gone", lambda path: path.symlink_to("nowhere"), "No such file"),
    ],
)
def test_bad_entries_are_left_out_with_a_sentence(
    shelf: Shelf, entry: str, make: Callable[[Path], object], sentence: str
) -> None:
    make(shelf.folder / entry)
    shelf.put("good")

    listing = shelf.look()

    assert list(listing.offers) == ["good"]
    assert sentence in listing.skipped[entry]


@pytest.mark.parametrize(
    ("entry", "version", "name", "sentence"),
    [
        ("plugin", "one two", "P", "a version is"),
        ("plugin", "1.0", "P" * 201, "more than 200 characters"),
        ("-plugin", "1.0", "P", "a slug is"),
        ("plugin", "", "P", "no 'Version:'"),
    ],
)
def test_names_that_nodes_would_refuse_are_refused_here(
    shelf: Shelf, entry: str, version: str, name: str, sentence: str
) -> None:
    shelf.put(entry, version, name)

    assert sentence in shelf.look().skipped[entry]


def test_a_bad_entry_is_logged_once(shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    (shelf.folder / "notes.txt").write_text("x")
    shelf.look()
    shelf.put("good")
    shelf.look()

    assert capsys.readouterr().out.count("publisher_entry_skipped") == 1


def test_a_zip_that_is_too_large_is_left_out(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "ZIP_BYTES_MAX", 10)
    shelf.put("plugin")

    assert "no node would mirror" in shelf.look().skipped["plugin"]


def test_a_full_disk_skips_an_entry_and_it_is_tried_again(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    shelf.put("plugin")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        assert "No space left" in shelf.look().skipped["plugin"]

    assert shelf.offer("plugin").version == "1.0"


def test_more_entries_than_any_node_takes_are_not_read(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "ENTRIES_MAX", 1)
    shelf.put("a")
    shelf.put("b")

    assert list(shelf.look().offers) == ["a"]


def test_hidden_entries_and_the_empty_index_are_not_worth_a_word(shelf: Shelf) -> None:
    (shelf.folder / ".git").mkdir()
    (shelf.folder / "index.php").write_text("<?php\n// Silence is golden.\n")

    assert shelf.look() == Listing({}, {})


def test_what_version_control_and_desktops_leave_is_not_packed(shelf: Shelf) -> None:
    folder = shelf.put("plugin", __htaccess="x", __DS_Store="x")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("secret")

    assert list(shelf.files_of(shelf.offer("plugin"))) == ["plugin/.htaccess", "plugin/main.php"]


def test_links_are_followed_within_a_plugin_and_refused_out_of_it(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    inner = shelf.put("inner")
    (inner / "copy.php").symlink_to("main.php")
    outer = shelf.put("outer")
    (outer / "secret").symlink_to(tmp_path / "secret")
    folder = shelf.put("folder")
    (folder / "again").symlink_to(".")
    (shelf.folder / "linked").symlink_to(inner)

    listing = shelf.look()

    assert list(listing.offers) == ["inner", "linked"]
    assert "inner/copy.php" in shelf.files_of(shelf.offer("inner"))
    assert "link out of its folder" in listing.skipped["outer"]
    assert "link out of its folder" in listing.skipped["folder"]


def test_pipes_and_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "many").mkdir()
    for name in ("a", "b"):
        (tmp_path / "many" / name).touch()
    (tmp_path / "odd").mkdir()
    os.mkfifo(tmp_path / "odd" / "pipe")

    with pytest.raises(Unpackable, match="neither a file nor a folder"):
        list_files(tmp_path / "odd")
    monkeypatch.setattr(packing, "FILES_MAX", 1)
    with pytest.raises(Unpackable, match="more than 1 files"):
        list_files(tmp_path / "many")


def test_names_that_are_not_utf_8_are_left_out_with_a_sentence(shelf: Shelf) -> None:
    folder = shelf.put("plugin")
    os.close(os.open(os.fsencode(folder) + b"/\xff.txt", os.O_CREAT))
    os.mkdir(os.fsencode(shelf.folder) + b"/\xfe")

    assert shelf.look().skipped == {
        "plugin": "the name \ufffd.txt is not UTF-8.",
        "\ufffd": "the folder is empty.",
    }


def test_every_offer_has_passed_the_gate(shelf: Shelf, tmp_path: Path) -> None:
    sub = shelf.put("plugin") / "inc" / "deep"
    sub.mkdir(parents=True)
    (sub / "\u00fcbung.txt").write_text("x")
    offer = shelf.offer("plugin")

    opened = shelf.artifacts.open(offer.sha256)
    with os.fdopen(opened.fd, "rb") as file:
        (tmp_path / "again.zip").write_bytes(file.read())

    assert inspect(tmp_path / "again.zip").files == 2


def test_any_readme_can_be_read() -> None:
    assert parse_readme(b"") == Readme()
    assert parse_readme(b"\xff\xfe\r\n== A ==\r\n== B ==\rtext").sections == {"a": "", "b": "text"}
    assert parse_readme(b"=== T ===\nTags:\n\nOne\ntwo: three\n" + b"x" * 300).short_description.startswith(
        "One two: three xxx"
    )
    assert len(parse_readme(b"=== T ===\n" + b"x" * 300).short_description) == 150
    many = b"".join(b"== S%d ==\ntext\n" % number for number in range(40))
    assert len(parse_readme(many).sections) == 16


def test_a_header_alone_makes_a_plugin(shelf: Shelf) -> None:
    (shelf.folder / "one.zip").write_bytes(forge([Forged("one/one.php", HEADER)]))

    assert shelf.offer("one").readme == Readme()
