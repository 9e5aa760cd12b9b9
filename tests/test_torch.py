from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.mixed import MixedCampaign, write_mixed
from limbo_compress import InputError, UsageError, compress, concat, load, vocabulary
from tests.jobs import MASKS, job

torch = pytest.importorskip("torch", reason="PyTorch is not installed: make torch")

from torch.utils import data  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from limbo_compress import torch as torch_module  # noqa: E402
from limbo_compress.torch import (  # noqa: E402
    IMAGENET_MEAN,
    IMAGENET_STD,
    BlockSampler,
    TorchDataset,
    augmentation,
    collate,
    prefetch,
    srgb_table,
)

# Both profiles have photographs.
pytestmark = pytest.mark.filterwarnings("ignore:masks. .* have no cryptomatte:UserWarning")


@pytest.fixture
def dataset(prefix: Path) -> Any:
    return load(prefix)


def planes(rows: Any) -> Any:
    return torch.from_numpy(np.moveaxis(np.array(rows, np.float32), -1, -3).copy())


def visible_boxes(dataset: Any, row: int) -> list[Any]:
    """The boxes of a row that still have an area once they are cut to hundredths of pixels."""
    corners = [
        (box, box.xyxy.astype(float).clip(0, [32, 24] * 2).round(2)) for box in dataset.boxes(row)
    ]
    return [box for box, (left, top, right, bottom) in corners if left < right and top < bottom]


def test_an_image_is_a_contiguous_tensor_of_its_own(dataset: Any) -> None:
    image = dataset.torch()[3]
    assert image.shape == (3, 24, 32)
    assert image.dtype == torch.float32
    assert image.is_contiguous()
    assert torch.equal(image, planes(dataset.images[3]))
    image.zero_()
    assert dataset.images[3].any()


@pytest.mark.parametrize("color", ["linear", "srgb"])
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.uint8]
)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_compiled_code_and_numpy_give_the_same_batch(
    dataset: Any, color: str, dtype: Any, memory_format: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [5, 2, 14, 2, 23, 0]  # of two prefixes
    samples = concat([dataset, dataset]).torch(
        labels=np.arange(24), color=color, dtype=dtype, memory_format=memory_format
    )
    batch, labels = samples[rows]
    monkeypatch.setattr(torch_module, "compiled", None)
    expected, _ = samples[rows]
    assert torch.equal(batch, expected)
    assert labels.tolist() == rows
    assert batch.shape == (6, 3, 24, 32)
    assert batch.is_contiguous(memory_format=memory_format)
    ((collated, _),) = DataLoader(samples, batch_size=6, sampler=rows)
    assert torch.equal(batch, collated)
    assert collated.is_contiguous(memory_format=memory_format)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("color", ["linear", "srgb"])
def test_bytes_of_what_is_no_number_are_zero(
    tmp_path: Path, color: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    special = np.array([np.nan, np.inf, -np.inf, -1, 2, 1], np.float16)
    np.save(tmp_path / "x-images.npy", special.reshape(1, 1, 2, 3))
    for _ in range(2):
        levels = load(tmp_path / "x").torch(color=color, dtype=torch.uint8)[0]
        assert levels.permute(1, 2, 0).flatten().tolist() == [0, 255, 0, 0, 255, 255]
        monkeypatch.setattr(torch_module, "compiled", None)


def test_memory_is_used_again_only_when_no_tensor_has_it(dataset: Any) -> None:
    samples = dataset.torch()
    kept = samples.__getitems__([0, 1])
    part = samples.__getitems__([2, 3])[1][0]  # a view of one plane
    array = samples.__getitems__([4, 5])[0].numpy()
    for _ in range(12):
        samples.__getitems__([6, 7])
    for tensor, row in zip(kept, (0, 1), strict=True):
        assert torch.equal(tensor, planes(dataset.images[row]))
    assert torch.equal(part, planes(dataset.images[3])[0])
    assert np.array_equal(array, planes(dataset.images[4]).numpy())
    places = {samples.__getitems__([6, 7])[0].data_ptr() for _ in range(5)}
    assert len(places) < 5


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A data set of 219 rows, all values of which are the number of the row."""
    prefix = tmp_path_factory.mktemp("numbered") / "set"
    values = np.arange(219, dtype=np.float16)[:, None, None, None]
    np.save(f"{prefix}-images.npy", np.broadcast_to(values, (219, 6, 8, 3)))
    return load(prefix)


def numbers(dataset: Any) -> Any:
    return dataset.torch(labels=np.arange(len(dataset)))


def check_numbers(batches: Any, rows: list[int]) -> None:
    """Check that each image of kept batches is of the row that its label says."""
    kept = list(batches)
    for images, labels in kept:
        assert torch.equal(images, labels[:, None, None, None].expand_as(images))
    assert sorted(int(label) for _, labels in kept for label in labels) == sorted(rows)


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize("workers", [0, 1, 2, 4])
def test_batches_that_are_kept_do_not_share_memory(numbered: Any, workers: int) -> None:
    loader = DataLoader(
        numbers(numbered),
        batch_size=8,
        shuffle=True,
        num_workers=workers,
        multiprocessing_context="spawn" if workers == 2 else None,
    )
    for _ in range(20 if workers == 0 else 2):
        check_numbers(loader, [*range(219)])


@pytest.mark.parametrize("ahead", [1, 3])
def test_batches_that_are_read_ahead_do_not_share_memory(numbered: Any, ahead: int) -> None:
    loader = DataLoader(numbers(numbered), batch_size=8, shuffle=True)
    for _ in range(5):
        check_numbers(prefetch(loader, ahead), [*range(219)])


@pytest.mark.parametrize("block", [1, 16, 219, 1000])
def test_blocks_are_shuffled(numbered: Any, block: int) -> None:
    samples = numbers(numbered)
    sampler = BlockSampler(samples, block, seed=3)
    loader = DataLoader(samples, batch_size=8, sampler=sampler)
    check_numbers(loader, [*range(219)])
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    assert orders[0] == orders[2] == list(BlockSampler(samples, block, seed=3))
    jumps = np.count_nonzero(np.diff(orders[1]) != 1)
    if block < 219:
        assert orders[0] != orders[1]
        assert 0 < jumps <= 219 // block + 1
    else:
        assert jumps <= 1


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_each_rank_gets_as_many_rows(numbered: Any, ranks: int) -> None:
    samplers = [BlockSampler(numbered, 16, ranks=ranks, rank=rank) for rank in range(ranks)]
    orders = [list(sampler) for sampler in samplers]
    assert {len(order) for order in orders} == {len(sampler) for sampler in samplers}
    every = [row for order in orders for row in order]
    assert set(every) == set(range(219))
    assert len(every) < 219 + ranks


@pytest.mark.parametrize(
    "wrong", [{"block": 0}, {"seed": -1}, {"ranks": 0}, {"ranks": 2, "rank": 2}]
)
def test_blocks_that_make_no_sense_are_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match="expected a block from 1"):
        BlockSampler(range(9), **wrong)


@pytest.mark.parametrize("workers", [0, 2])
def test_joined_sets_and_views_do_not_share_memory(numbered: Any, workers: int) -> None:
    joined: Any = data.ConcatDataset([numbers(numbered), data.Subset(numbers(numbered), range(50))])
    loader = DataLoader(joined, batch_size=8, shuffle=True, num_workers=workers)
    check_numbers(loader, [*range(219), *range(50)])
    half = data.random_split(numbers(numbered), [100, 119])[0]
    check_numbers(DataLoader(half, batch_size=7, num_workers=workers), list(half.indices))


@pytest.mark.parametrize("batch_size", [1, 3])
def test_items_that_are_kept_stay_as_they_are(numbered: Any, batch_size: int) -> None:
    samples = numbers(numbered)
    kept: Any = [samples[row] for row in range(6)]
    for images, _ in DataLoader(kept, batch_size=batch_size):
        images.zero_()  # as a training step may, in place
    assert [int(image.max()) for image, _ in kept] == [*range(6)]


def test_a_batch_sampler_may_take_the_place_of_the_batch_size(numbered: Any) -> None:
    batches = data.BatchSampler(data.RandomSampler(range(219)), 8, drop_last=False)
    loader = DataLoader(numbers(numbered), sampler=batches, batch_size=None)
    check_numbers(loader, [*range(219)])


def test_several_rows_make_a_batch(numbered: Any) -> None:
    samples = numbers(numbered)
    for rows, expected in (
        (slice(2, 5), [2, 3, 4]),
        ([7, -1], [7, 218]),
        (np.arange(219) > 216, [217, 218]),
        (torch.tensor([3, 1]), [3, 1]),
    ):
        images, labels = samples[rows]
        assert labels.tolist() == expected
        assert images[:, 0, 0, 0].tolist() == expected
    for nothing in (slice(5, 5), [], [[1, 2]]):
        with pytest.raises(UsageError, match="no batch"):
            samples[nothing]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_dtype_is_kept(dataset: Any, dtype: Any) -> None:
    image = dataset.torch(dtype=dtype)[0]
    assert torch.equal(image, planes(dataset.images[0]).to(dtype))
    image.zero_()
    assert dataset.images[0].any()


@pytest.mark.parametrize("color", ["linear", "srgb"])
def test_bytes_are_levels_of_the_color(dataset: Any, color: str) -> None:
    images, masks = dataset.torch(dtype=torch.uint8, color=color, masks="big")[:]
    exact, covered = dataset.torch(dtype=torch.float64, color=color, masks="big")[:]
    assert images.dtype == masks.dtype == torch.uint8
    # The table of sRGB has 11 bits, so that values near the middle may round to either side.
    assert (images.double() - 255 * exact).abs().max() < (0.5001 if color == "linear" else 0.6)
    assert torch.equal(masks, (255 * covered).round().to(torch.uint8))
    assert images.max() > 200


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64, np.float32, "float32"])
def test_a_dtype_that_holds_no_fractions_is_refused(dataset: Any, dtype: Any) -> None:
    with pytest.raises(UsageError, match="do not fit the dtype"):
        dataset.torch(dtype=dtype)


@pytest.mark.parametrize(
    "kind", [torch.tensor, np.array, list, tuple, iter, "series", torch.nn.Parameter]
)
def test_numbers_are_labels_of_the_rows(dataset: Any, kind: Any) -> None:
    values: Any = [row / 4 for row in range(12)]
    if kind == "series":
        pandas = pytest.importorskip("pandas")
        given = pandas.Series(values, index=range(12, 0, -1))
    else:
        given = kind(torch.tensor(values)) if kind is torch.nn.Parameter else kind(values)
    samples = dataset.torch(labels=given)
    assert [float(label) for _, label in map(samples.__getitem__, range(12))] == values


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (torch.zeros(11), "labels for 11 rows, but 12 samples"),
        (torch.tensor(1.0), "labels for one number"),
        ({1, 2}, "neither categories nor numbers"),
        (b"48", "neither categories nor numbers"),
        (np.array(["48G"] * 12), "neither categories nor numbers"),
        ([None] * 12, "neither categories nor numbers"),
        (["48G", 1], "expected names of categories"),
        (["48G", "30B"] * 6, "named twice; labels for each row are numbers"),
        (np.ma.masked_equal(np.arange(12), 3), "some are masked"),
        (np.full(12, 2**25 + 1), "too large for float32"),
        (np.full(12, 1j), "complex"),
        ({}, "names no label"),
    ],
)
def test_what_is_neither_is_refused(dataset: Any, labels: Any, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        dataset.torch(labels=labels)


def test_a_text_is_one_mask(dataset: Any) -> None:
    assert torch.equal(dataset.torch(masks="big")[0][1], dataset.torch(masks=["big"])[0][1])


def test_parts_stand_in_their_order(dataset: Any) -> None:
    labels = {"30": "^30", "48": "^48"}
    image, masks, label = dataset.torch(labels=labels, masks=["big", "all"])[-1]
    assert torch.equal(image, planes(dataset.images[11]))
    both = [planes(dataset.masks["big"][11]), planes(dataset.masks["all"][11])]
    assert torch.equal(masks, torch.cat(both))
    assert label.tolist() == dataset.labels(labels)[11].tolist()


def test_a_batch_is_as_its_rows(dataset: Any) -> None:
    samples = dataset.torch(labels={"30B"})
    rows = [7, 2, 11, 2, 0]
    batch = samples.__getitems__(rows)
    for row, (image, label) in zip(rows, batch, strict=True):
        alone = samples[row]
        assert torch.equal(image, alone[0])
        assert torch.equal(label, alone[1])


def test_selected_rows_keep_their_labels(dataset: Any) -> None:
    rows = [9, 1, 4]
    samples = dataset.select(rows).torch(labels={"real"})
    assert len(samples) == 3
    for position, row in enumerate(rows):
        image, label = samples[position]
        assert torch.equal(image, planes(dataset.images[row]))
        assert label.tolist() == dataset.labels({"real"})[row].tolist()


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[bool]]:
    """A data set of several campaigns, and which of its samples have a cryptomatte."""
    folder = tmp_path_factory.mktemp("mixed")
    write_mixed(folder / "data", MixedCampaign(samples=24, size=(90, 70), seed=7))
    compress(job(folder / "data", folder, masks=MASKS))
    dataset = load(folder / "out")
    samples = (json.loads(Path(path).read_text()) for path in dataset.paths)
    return dataset, ["cryptomatte" in sample.get("synthetic", {}) for sample in samples]


def test_training_on_unknown_masks_is_warned_of_once(mixed: tuple[Any, list[bool]]) -> None:
    dataset, known = mixed
    assert known.count(False) == 8  # two backgrounds and six photographs
    message = "masks: 8 of 24 rows have no cryptomatte.*select.dataset.has_matte.*known_masks=True"
    with pytest.warns(UserWarning, match=message) as caught:
        samples = dataset.torch(masks="all")
    assert [warning.filename for warning in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, masks = samples[:]
        pickle.loads(pickle.dumps(samples))
        dataset.select(known).torch(masks="all")
        dataset.torch(labels="@type-30b")
        dataset.torch(masks="all", known_masks=True)
    assert not masks[[not is_known for is_known in known]].any()
    assert masks[known].any(dim=(1, 2, 3)).all()
    unknown = dataset.select([not is_known for is_known in known])
    with pytest.warns(UserWarning, match="masks: 32 of 48 rows"):
        concat([dataset, unknown, unknown, unknown[:]]).torch(masks="big")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("more", [{}, {"labels": np.arange(24)}, {"boxes": True}])
def test_flags_of_known_masks(
    mixed: tuple[Any, list[bool]], workers: int, more: dict[str, Any]
) -> None:
    dataset, known = mixed
    samples = dataset.torch(masks=["all", "big"], known_masks=True, **more)
    assert [samples[row][2].item() for row in range(24)] == known
    assert (samples[0][2].dtype, samples[0][2].shape) == (torch.bool, ())
    assert samples[[5, 2, -1]][2].tolist() == [known[5], known[2], known[-1]]
    rows = [*range(0, 24, 2), *range(23, 0, -2)]
    loader = DataLoader(samples, 5, sampler=rows, num_workers=workers)
    batches = list(loader)
    assert all(len(batch) == 3 + bool(more) for batch in batches)
    flags = torch.cat([batch[2] for batch in batches])
    assert flags.dtype == torch.bool
    assert flags.tolist() == [known[row] for row in rows]
    if "labels" in more:
        assert torch.cat([batch[3] for batch in batches]).tolist() == rows
    if "boxes" in more:
        found = [len(target["boxes"]) for batch in batches for target in batch[3]]
        assert found == [len(visible_boxes(dataset, row)) for row in rows]
    reversed_rows = dataset[::-1].torch(masks="all", known_masks=True)
    assert reversed_rows[:][2].tolist() == known[::-1]


def test_flags_and_transforms(mixed: tuple[Any, list[bool]], torchvision: Any) -> None:
    dataset, known = mixed
    v2 = torchvision.transforms.v2
    transform = v2.Compose([v2.RandomHorizontalFlip(1), v2.ToDtype(torch.float64, scale=True)])
    for more in ({}, {"boxes": True}):
        samples = dataset.torch(
            masks="all", known_masks=True, tv_tensors=True, transform=transform, **more
        )
        plain = dataset.torch(masks="all")
        for row in (0, 9, 23):
            image, masks, flag, *_ = samples[row]
            assert torch.equal(masks, plain[row][1].flip(-1))
            assert (image.dtype, flag.dtype, flag.item()) == (torch.float64, torch.bool, known[row])
    of_images = dataset.torch(masks="all", known_masks=True, transform=lambda image: image.mean())
    assert of_images[3][2].item() == known[3]


def test_what_does_not_say_which_masks_are_known(
    mixed: tuple[Any, list[bool]], tmp_path: Path
) -> None:
    dataset, known = mixed
    (prefix, _), *_ = dataset.prefixes
    for name in ("images.npy", "masks-all.npy"):
        (tmp_path / f"x-{name}").symlink_to(f"{prefix}-{name}")
    alone = load(tmp_path / "x")
    with pytest.warns(UserWarning, match="masks: it is not known which rows have a cryptomatte: "):
        alone.torch(masks="all")
    with pytest.raises(InputError, match="there is no such output"):
        alone.torch(masks="all", known_masks=True)
    with pytest.raises(UsageError, match="`known_masks` is a flag of masks"):
        dataset.torch(known_masks=True)
    # As by the reference, without an index.
    (tmp_path / "x-metadata.pickle").write_bytes(pickle.dumps(list(dataset.metadata)))
    assert load(tmp_path / "x").torch(masks="all", known_masks=True)[:][2].tolist() == known


def test_the_table_is_the_srgb_curve() -> None:
    table = srgb_table()
    values = np.arange(256) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    encoded = table[linear.astype(np.float16).view(np.uint16)]
    np.testing.assert_allclose(encoded, values, atol=1e-3)
    assert table[np.array([0, 1, -1], np.float16).view(np.uint16)].tolist() == [0, 1, 0]


def test_srgb_images_are_encoded(dataset: Any) -> None:
    image = dataset.torch(color="srgb")[0]
    light = planes(dataset.images[0]).double()
    expected = torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert torch.allclose(image.double(), expected, atol=1e-3)


def test_targets_have_corners_and_classes(dataset: Any) -> None:
    samples = dataset.torch(boxes=True, labels={"48": "^48", "30": "^30"})
    _, target = samples[0]
    boxes = dataset.boxes(0)
    assert target["boxes"].dtype == torch.float32
    assert target["labels"].dtype == torch.int64
    expected = np.array([box.xyxy.clip(0, [32, 24] * 2) for box in boxes])
    np.testing.assert_allclose(target["boxes"], expected, atol=0.006)
    numbers = [1 if str(box.category).startswith("48") else 2 for box in boxes]
    assert target["labels"].tolist() == numbers


def test_classes_may_be_sets_of_the_vocabulary(dataset: Any) -> None:
    labels = {"48": vocabulary.TYPE_48, "30B": "@type-30b"}
    samples = dataset.torch(boxes=True, labels=labels)
    numbered = dataset.torch(boxes=True, classes=["@type-48", "@type-30b"])
    expected = dict.fromkeys(vocabulary.TYPE_48, 1) | dict.fromkeys(vocabulary.TYPE_30B, 2)
    assert samples.classes == numbered.classes == expected
    given = dataset.torch(boxes=True, classes={"@type-48": 1, "@type-30b": 2})
    assert given.classes == expected
    patterns = dataset.torch(boxes=True, labels={"48": "^48", "30": "^30"})
    for row in range(12):
        assert torch.equal(samples[row][1]["boxes"], patterns[row][1]["boxes"])
    _, label = dataset.torch(labels="@type-48")[:]
    assert label.tolist() == dataset.labels(vocabulary.TYPE_48).tolist()


def test_a_sample_without_boxes_has_an_empty_target(dataset: Any) -> None:
    with pytest.warns(UserWarning, match="absent"):
        _, target = dataset.torch(boxes=True, labels={"absent"})[0]
    assert target["boxes"].shape == (0, 4)
    assert target["labels"].shape == (0,)


@pytest.mark.parametrize("seed", range(100))
def test_a_category_has_one_number_in_all_views(dataset: Any, seed: int) -> None:
    expected = {name: number for number, name in enumerate(dataset.box_classes, 1)}
    train, test = dataset.split(0.5, seed=seed)
    few = train.select([seed % 6])
    views = [train, test, few, concat([few, test]), pickle.loads(pickle.dumps(test))]
    assert all(view.torch(boxes=True).classes == expected for view in views)


def test_classes_are_chosen_and_numbered_by_their_names(dataset: Any) -> None:
    samples = dataset.torch(boxes=True, classes=["48X", "30B"])
    assert samples.classes == {"48X": 1, "30B": 2}
    for row in range(12):
        expected = [
            samples.classes[b.category]
            for b in visible_boxes(dataset, row)
            if b.category in samples.classes
        ]
        assert samples[row][1]["labels"].tolist() == expected
    with pytest.warns(UserWarning, match="no sample has the category 48Z") as warnings:
        assert dataset.torch(boxes=True, classes="48Z").classes == {"48Z": 1}
    assert [found.filename for found in warnings] == [__file__]
    grouped = dataset.torch(boxes=True, labels={"48": "^48", "30": "^30"}).classes
    assert dataset.select([1]).torch(boxes=True, classes=grouped).classes == grouped


def test_training_on_no_boxes_is_told(dataset: Any, prefix: Path, tmp_path: Path) -> None:
    (tmp_path / "x-images.npy").symlink_to(f"{prefix}-images.npy")
    samples = [{"annotations": [{"category": name}]} for name in ["48G", "30B"] * 6]
    (tmp_path / "x-metadata.pickle").write_bytes(pickle.dumps(samples))
    with pytest.warns(UserWarning, match="none of 12 rows has one; were the regions left out"):
        load(tmp_path / "x").torch(boxes=True)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"classes": {"48X"}}, "a set has no order"),
        ({"classes": ["48X", "48X"]}, "named twice"),
        ({"classes": {"48X": 0}}, "count from 1"),
        ({"classes": [1]}, "expected names of categories"),
        ({"classes": ["48X"], "labels": {"48X"}}, "without `labels`"),
        ({"classes": ["48X"], "boxes": False}, "go with `boxes`"),
    ],
)
def test_classes_that_make_no_sense_are_refused(dataset: Any, arguments: Any, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        dataset.torch(**{"boxes": True} | arguments)


@pytest.fixture
def edges(tmp_path: Path) -> Any:
    """A data set whose first row has boxes of all kinds, and whose second has none that is left."""
    boxes = {
        "inside": [2, 3, 4, 5],
        "over the edge": [-0.16, -2, 8, 30],
        "everything": [-5, -5, 99, 99],
        "empty": [3, 3, 0, 4],
        "thin": [3, 3, 0.001, 4],
        "negative": [9, 9, -4, 3],
        "outside": [50, 3, 4, 4],
        "beyond all": [1e308, 0, 1e308, 4],
    }
    annotations = [
        {"category": name, "bbox": box, "bbox_mode": "XYWH_ABS"} for name, box in boxes.items()
    ]
    samples = [
        {"image": {"res": [20, 10]}, "annotations": found}
        for found in (annotations, annotations[3:])
    ]
    (tmp_path / "x-metadata.pickle").write_bytes(pickle.dumps(samples))
    np.save(tmp_path / "x-images.npy", np.zeros((2, 10, 20, 3), np.float16))
    return load(tmp_path / "x")


def test_boxes_end_at_the_edges(edges: Any) -> None:
    (_, target), (_, nothing) = edges.torch(boxes=True)
    assert dict(zip(target["labels"].tolist(), target["boxes"].tolist(), strict=True)) == {
        edges.classes.index("inside") + 1: [2, 3, 6, 8],
        edges.classes.index("over the edge") + 1: [0, 0, pytest.approx(7.84), 10],
        edges.classes.index("everything") + 1: [0, 0, 20, 10],
    }
    assert nothing["boxes"].shape == (0, 4)


def test_collate_stacks_images_and_lists_targets(dataset: Any) -> None:
    samples = dataset.torch(boxes=True, masks=["all"])
    loader = DataLoader(samples, batch_size=12, collate_fn=collate)
    ((images, masks, targets),) = loader
    assert images.shape == (12, 3, 24, 32)
    assert masks.shape == (12, 1, 24, 32)
    assert [len(target["boxes"]) for target in targets] == [
        len(visible_boxes(dataset, row)) for row in range(12)
    ]


def test_a_transform_gets_the_image(dataset: Any) -> None:
    image, label = dataset.torch(labels={"30B"}, transform=lambda image: image.mean())[0]
    assert image.shape == ()
    assert label.shape == (1,)


@pytest.fixture
def torchvision() -> Any:
    try:
        import torchvision
        import torchvision.transforms.v2
    except (ImportError, RuntimeError):
        pytest.skip("torchvision is not installed, or is for another PyTorch")
    return torchvision


def test_tv_tensors_need_torchvision(dataset: Any) -> None:
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        with pytest.raises(UsageError, match="torchvision"):
            dataset.torch(tv_tensors=True)
    else:
        pytest.skip("torchvision is installed")


def test_tv_tensors_say_what_they_are(dataset: Any, torchvision: Any) -> None:
    image, mask, target = dataset.torch(masks=["all"], boxes=True, tv_tensors=True)[0]
    assert isinstance(image, torchvision.tv_tensors.Image)
    assert isinstance(mask, torchvision.tv_tensors.Mask)
    assert isinstance(target["boxes"], torchvision.tv_tensors.BoundingBoxes)


def test_boxes_are_sanitized_but_masks_are_not_dropped(dataset: Any, torchvision: Any) -> None:
    v2 = torchvision.transforms.v2
    transform = v2.SanitizeBoundingBoxes(
        min_area=1e9, labels_getter=lambda item: item[-1]["labels"]
    )
    plain = dataset.torch(boxes=True, tv_tensors=True, transform=transform)
    assert [len(plain[row][1]["boxes"]) for row in range(12)] == [0] * 12
    as_many = ["all"] * len(dataset.torch(boxes=True)[0][1]["boxes"])
    masked = dataset.torch(boxes=True, masks=as_many, tv_tensors=True, transform=transform)
    with pytest.raises(UsageError, match="dropped masks, as SanitizeBoundingBoxes"):
        masked[0]
    masked.transform = v2.SanitizeBoundingBoxes()
    with pytest.raises(UsageError, match="as SanitizeBoundingBoxes does"):
        masked[0]


@pytest.mark.filterwarnings("ignore")
def test_a_detector_trains_a_step(edges: Any, torchvision: Any) -> None:
    samples = edges.torch(boxes=True, color="srgb")
    network = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=len(samples.classes) + 1
    )
    for images, targets in DataLoader(samples, batch_size=4):
        losses = network(list(images), targets)
        assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"masks": ["absent"]}, "no mask 'absent'; its masks: all, big"),
        ({"color": "rgb"}, "color is 'rgb', expected one of linear, srgb"),
        ({"memory_format": torch.channels_last_3d}, "memory_format is torch.channels_last_3d"),
        ({"labels": np.zeros((3, 1))}, "labels for 3 rows, but 12 samples"),
        ({"labels": np.zeros((12, 1)), "boxes": True}, "classes of boxes"),
        ({"labels": {"big": "("}, "boxes": True}, "not a regular expression"),
    ],
)
def test_what_does_not_fit_is_refused(dataset: Any, wrong: Any, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        dataset.torch(**wrong)


def test_a_set_without_images_is_refused(prefix: Path, tmp_path: Path) -> None:
    (tmp_path / "x-metadata.pickle").write_bytes(Path(f"{prefix}-metadata.pickle").read_bytes())
    with pytest.raises(UsageError, match="no images"):
        load(str(tmp_path / "x")).torch()


def test_a_replaced_file_is_noticed(prefix: Path, tmp_path: Path) -> None:
    rows = np.load(f"{prefix}-images.npy")
    np.save(tmp_path / "x-images.npy", rows)
    samples = load(str(tmp_path / "x")).torch()
    samples[0]
    np.save(tmp_path / "y.npy", rows[::-1])
    (tmp_path / "y.npy").rename(tmp_path / "x-images.npy")
    with pytest.raises(InputError, match="replaced"):
        samples[0]


def test_the_class_of_the_tutorial_is_cheap_to_pickle(dataset: Any) -> None:
    pytest.importorskip("kornia", reason="kornia is not installed: make torch")
    for view in (dataset, dataset.select([0, 5])):
        rows = TorchDataset(view.labels({"30B"}), view.images)
        pickled = pickle.dumps(rows)
        assert len(pickled) < 10_000
        assert torch.equal(pickle.loads(pickled)[1][0], rows[1][0])


def test_samples_are_cheap_to_pickle(dataset: Any) -> None:
    samples = dataset.torch(masks=["all"], labels={"30B"})
    pickled = pickle.dumps(samples)
    assert len(pickled) < 5000
    assert torch.equal(pickle.loads(pickled)[5][0], samples[5][0])


def test_augmentation_changes_each_image_by_itself() -> None:
    pytest.importorskip("kornia", reason="kornia is not installed: make torch")
    torch.manual_seed(0)
    images = torch.rand(1, 3, 24, 32).expand(4, -1, -1, -1)
    augmented = augmentation()(images)
    assert augmented.shape == images.shape
    assert not any(torch.equal(augmented[0], other) for other in augmented[1:])


def test_the_augmentation_draws_what_the_seed_draws() -> None:
    pytest.importorskip("kornia", reason="kornia is not installed: make torch")
    torch.manual_seed(0)
    steps: Any = augmentation()
    _, affine, flip = steps
    images = torch.Size([4000, 3, 24, 32])
    drawn = affine.forward_parameters(images)
    for values, low, high in (
        (drawn["angle"], -90, 90),
        (drawn["scale"][:, 0], 0.8, 1.2),
        (drawn["shear_x"], -20, 20),
        (drawn["shear_y"], -20, 20),
    ):
        edges = torch.linspace(low, high, 11)
        counts = torch.histogram(values, edges).hist
        assert counts.sum() == 4000, (low, high)
        assert counts.min() > 300
    assert torch.equal(drawn["scale"][:, 0], drawn["scale"][:, 1])
    assert not drawn["translations"].any()
    assert affine.p == 1
    assert 0.45 < flip.forward_parameters(images)["batch_prob"].mean() < 0.55


def test_the_outside_is_filled_with_the_mean() -> None:
    pytest.importorskip("kornia", reason="kornia is not installed: make torch")
    torch.manual_seed(0)
    augmented = augmentation()(torch.ones(8, 3, 24, 32))
    assert (augmented == 0).any()


def test_the_class_of_the_seed_tutorial(dataset: Any) -> None:
    pytest.importorskip("kornia", reason="kornia is not installed: make torch")
    labels = dataset.labels({"30B"})
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    plain = TorchDataset(labels, dataset.images, training=False)
    image, normalized, label = plain[4]
    assert torch.equal(image, planes(dataset.images[4]))
    assert torch.allclose(normalized, (image - mean) / std, atol=1e-5)
    assert label.tolist() == labels[4].tolist()
    tensors = TorchDataset(
        torch.from_numpy(labels), torch.from_numpy(np.array(dataset.images)), training=False
    )
    assert all(torch.equal(*pair) for pair in zip(tensors[4], plain[4], strict=True))
    planar = torch.from_numpy(np.array(dataset.images)).permute(0, 3, 1, 2).contiguous()
    strided = TorchDataset(labels, planar.permute(0, 2, 3, 1), training=False)
    assert torch.equal(strided[4][0], plain[4][0])
    coarse = TorchDataset(labels, torch.from_numpy(np.array(dataset.images)).bfloat16(), False)
    assert torch.allclose(coarse[4][0], plain[4][0], atol=0.01)
    assert torch.equal(plain[[4, 5]][0], torch.stack([plain[4][0], plain[5][0]]))
    assert len(plain[2:5][2]) == 3
    training = TorchDataset(labels, dataset.images)
    ((images, augmented, batch_labels),) = DataLoader(training, batch_size=12)
    assert images.shape == augmented.shape == (12, 3, 24, 32)
    assert batch_labels.tolist() == labels.tolist()
    assert not torch.allclose(augmented, (images - mean) / std, atol=1e-2)


@pytest.mark.parametrize(
    "images", [np.zeros((2, 3, 6, 8), np.float16), np.zeros((2, 6, 8, 3), np.uint8), [1, 2], None]
)
def test_what_is_no_image_is_refused_by_the_class_of_the_tutorial(images: Any) -> None:
    with pytest.raises(UsageError, match="images of shape"):
        TorchDataset(np.zeros(2), images)
