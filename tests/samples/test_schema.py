from __future__ import annotations

import pytest

from limbo_compress import limits
from limbo_compress.errors import SampleError
from limbo_compress.samples.schema import cryptomatte_section, own_file, strip_regions


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


@pytest.mark.parametrize("manifest", [["30B/0", "a"], {"30B/0": "21e5352c", "a": "3c2569b2"}])
def test_a_manifest_is_a_list_or_an_object_of_labels(manifest: object) -> None:
    metadata = {"synthetic": {"cryptomatte": {"filename": "x.exr", "manifest": manifest}}}
    section = cryptomatte_section(metadata, "")
    assert section is not None
    assert list(section["manifest"]) == ["30B/0", "a"]


def test_a_manifest_of_too_many_labels_is_a_bad_sample() -> None:
    manifest = [str(number) for number in range(limits.LABELS + 1)]
    metadata = {"synthetic": {"cryptomatte": {"filename": "x.exr", "manifest": manifest}}}
    with pytest.raises(SampleError, match="has 65,537 labels, the limit is 65,536"):
        cryptomatte_section(metadata, "")
