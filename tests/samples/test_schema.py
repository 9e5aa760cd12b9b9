from __future__ import annotations

import pytest

from limbo_compress.errors import SampleError
from limbo_compress.samples.schema import own_file, strip_regions


def test_own_files_are_beside_the_metadata() -> None:
    assert own_file("/data/x.json", {"filename": "x.png"}, "image") == "/data/x.png"


@pytest.mark.parametrize("name", ["../x.png", "/etc/passwd", "a/b.png", "..", ".", "a\0b"])
def test_a_file_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(SampleError, match="plain file name"):
        own_file("/data/x.json", {"filename": name}, "image")


@pytest.mark.parametrize("section", [None, [], "x.png", {}, {"filename": 5}, {"filename": ""}])
def test_a_section_without_a_file_name_is_a_bad_sample(section: object) -> None:
    with pytest.raises(SampleError, match=r"no image\.filename"):
        own_file("/data/x.json", section, "image")


def test_strip_regions_keeps_each_category_once_in_order() -> None:
    annotations = [{"category": "b", "bbox": [1]}, {"category": "a"}, {"category": "b"}, {}]
    metadata = {"annotations": annotations, "image": {}}
    expected = [{"category": "b"}, {"category": "a"}, {"category": None}]
    assert repr(strip_regions(metadata, "")) == repr({"annotations": expected, "image": {}})
    assert metadata["annotations"] is annotations
    assert repr(strip_regions({"image": {}}, "")) == repr({"image": {}, "annotations": []})


@pytest.mark.parametrize("annotations", [5, [5], [{"category": []}], "text", None])
def test_malformed_annotations_are_a_bad_sample(annotations: object) -> None:
    with pytest.raises(SampleError, match="annotations"):
        strip_regions({"annotations": annotations}, "x.json")
