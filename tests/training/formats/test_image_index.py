"""Images are found by what tables call them, also where many folders have the same file name."""

from __future__ import annotations

from pathlib import Path

from tracker.training.formats.image_index import ANY, FEW, ImageIndex
from tracker.training.formats.table_rows import ImageFinder


def find(index: ImageIndex, text: str) -> list[str]:
    return [image.relative for image in index.find(text)]


def test_of_many_images_with_one_name_the_folders_of_the_path_decide(tmp_path: Path) -> None:
    people = [f"p{number}" for number in range(FEW)]
    names = [f"{person}/{side}/0.jpg" for person in people for side in ("left", "right")]
    for name in [*names, "p3/left/0.png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    index = ImageIndex.read(tmp_path)
    left = [name for name in names if "left" in name]
    assert [find(index, name) for name in names] == [[name] for name in names]
    assert find(index, "p3/left/0") == ["p3/left/0.jpg", "p3/left/0.png"]
    assert find(index, "./train/left/0.jpg") == left
    # no folder of the path is there, or none that has this kind of image
    assert find(index, "elsewhere/0.jpg") == find(index, "0.jpg") == names
    assert find(index, "right/0.png") == ["p3/left/0.png"]
    assert find(index, "p3/../0.jpg") == find(index, "left/1.jpg") == []


def test_a_name_with_a_single_image_and_one_with_several_are_found_alike(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.jpg", "c.jpg", "sub/c.jpg", "x.jpg", "x.jpg.jpg", "1.2.826.png"):
        (tmp_path / name).touch()
    index = ImageIndex.read(tmp_path)

    def find_one(text: str, ending: str = "") -> str | None:
        image = index.find_one(text, ending)
        return image and image.relative

    for single in ("a", "c"):
        assert find_one(f"{single}.jpg") == find_one(single, ".jpg") == f"{single}.jpg"
        assert find_one(f"{single}.jpg", ".png") == find_one(single, ANY) == f"{single}.jpg"
        assert find_one(single) is find_one(single, ".png") is find_one(f"{single}.png") is None
    assert find_one("x.jpg", ".jpg") == "x.jpg"
    assert find_one("1.2.826", ".png") == "1.2.826.png"


def test_the_short_way_of_a_table_finds_what_the_long_way_finds(tmp_path: Path) -> None:
    names = ["a.jpg", "b.jpg", "b.png", "c.jpg", "sub/c.jpg", "x.jpg", "x.jpg.jpg", "1.2.826.png"]
    names += ["sub/d.JPG", "e_big.jpg", "back\\f.jpg", "sub/up.jpg", "notes.txt", "sub/deep/g.tif"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    asked = {*names, "", ".", ".jpg", "sub/../a.jpg", "./a", "../a.jpg", "e", "f", "nothing"}
    asked |= {name.rpartition(".")[0] for name in names} | {
        name.partition("/")[2] for name in names
    }
    asked |= {f"{name}.jpg" for name in names} | {str(tmp_path / "a.jpg"), "\\a.jpg", "sub\\d.JPG"}
    for ending in ("", ANY, ".jpg", ".JPG", ".png", "_big.jpg", "jpg"):
        long, short = (ImageFinder.read(tmp_path, ending) for _ in range(2))
        long.index.only.clear()
        assert [short.find(text) for text in sorted(asked)] == [
            long.find(text) for text in sorted(asked)
        ]
        assert short.find("a.jpg") == str(tmp_path / "a.jpg")
        for named in (set(), {str(tmp_path / name) for name in names[:-3]}):
            assert short.index.list_others(named) == long.index.list_others(named)
    named = {str(tmp_path / name) for name in names if name != "notes.txt"}
    assert short.index.list_others(named) == []
    assert len(short.index.list_others(set())) == len(named)
