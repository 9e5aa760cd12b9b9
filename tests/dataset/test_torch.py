from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limbo_compress import InputError, Options, UsageError, compress, load

torch = pytest.importorskip("torch", reason="PyTorch is not installed: make torch")

from torch.utils.data import DataLoader  # noqa: E402

from limbo_compress.dataset import torch as torch_module  # noqa: E402
from limbo_compress.dataset.torch import (  # noqa: E402
    IMAGENET_MEAN,
    IMAGENET_STD,
    TorchDataset,
    augmentation,
    collate,
    srgb_table,
)


@pytest.fixture(scope="module")
def prefix(campaign: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    options = Options(
        (str(campaign),),
        str(tmp_path_factory.mktemp("torch") / "set"),
        images=True,
        metadata=True,
        masks=(("all", "."), ("big", "^48")),
        image_size=(32, 24),
        workers=1,
    )
    compress(options)
    return options.prefix


@pytest.fixture
def dataset(prefix: str) -> Any:
    return load(prefix)


def planes(rows: Any) -> Any:
    return torch.from_numpy(np.moveaxis(np.array(rows, np.float32), -1, -3).copy())


def test_an_image_is_a_contiguous_tensor_of_its_own(dataset: Any) -> None:
    image = dataset.torch()[3]
    assert image.shape == (3, 24, 32)
    assert image.dtype == torch.float32
    assert image.is_contiguous()
    assert torch.equal(image, planes(dataset.images[3]))
    image.zero_()
    assert dataset.images[3].any()


@pytest.mark.parametrize("color", ["linear", "srgb"])
def test_compiled_code_and_numpy_give_the_same_values(
    dataset: Any, color: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = [image.clone() for image in dataset.torch(color=color).__getitems__(range(12))]
    monkeypatch.setattr(torch_module, "compiled", None)
    for image, expected in zip(
        dataset.torch(color=color).__getitems__(range(12)), batch, strict=True
    ):
        assert torch.equal(image, expected)


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


def test_an_epoch_whose_batches_are_all_kept_has_every_row(dataset: Any) -> None:
    loader = DataLoader(dataset.torch(), batch_size=2)
    batches = list(loader)
    assert torch.equal(torch.cat(batches), torch.stack([planes(row) for row in dataset.images]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_dtype_is_kept(dataset: Any, dtype: Any) -> None:
    image = dataset.torch(dtype=dtype)[0]
    assert torch.equal(image, planes(dataset.images[0]).to(dtype))
    image.zero_()
    assert dataset.images[0].any()


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


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_has_every_row_once(dataset: Any, workers: int) -> None:
    labels = np.arange(12, dtype=np.float32)[:, None]
    samples = dataset.torch(labels=labels)
    loader = DataLoader(
        samples,
        batch_size=5,
        shuffle=True,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
    )
    seen = {
        int(row): image for images, rows in loader for image, row in zip(images, rows, strict=True)
    }
    assert sorted(seen) == list(range(12))
    for row, image in seen.items():
        assert torch.equal(image, planes(dataset.images[row]))


def test_selected_rows_keep_their_labels(dataset: Any) -> None:
    rows = [9, 1, 4]
    samples = dataset.select(rows).torch(labels={"real"})
    assert len(samples) == 3
    for position, row in enumerate(rows):
        image, label = samples[position]
        assert torch.equal(image, planes(dataset.images[row]))
        assert label.tolist() == dataset.labels({"real"})[row].tolist()


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


def test_a_sample_without_boxes_has_an_empty_target(dataset: Any) -> None:
    with pytest.warns(UserWarning, match="absent"):
        _, target = dataset.torch(boxes=True, labels={"absent"})[0]
    assert target["boxes"].shape == (0, 4)
    assert target["labels"].shape == (0,)


def test_collate_stacks_images_and_lists_targets(dataset: Any) -> None:
    samples = dataset.torch(boxes=True, masks=["all"])
    loader = DataLoader(samples, batch_size=12, collate_fn=collate)
    ((images, masks, targets),) = loader
    assert images.shape == (12, 3, 24, 32)
    assert masks.shape == (12, 1, 24, 32)
    assert [len(target["boxes"]) for target in targets] == [
        len(dataset.boxes(row)) for row in range(12)
    ]


def test_a_transform_gets_the_image(dataset: Any) -> None:
    image, label = dataset.torch(labels={"30B"}, transform=lambda image: image.mean())[0]
    assert image.shape == ()
    assert label.shape == (1,)


def test_tv_tensors_say_what_they_are(dataset: Any) -> None:
    try:
        from torchvision import tv_tensors
    except (ImportError, RuntimeError):
        with pytest.raises(UsageError, match="torchvision"):
            dataset.torch(tv_tensors=True)
        pytest.skip("torchvision is not installed, or is for another PyTorch")
    image, mask, target = dataset.torch(masks=["all"], boxes=True, tv_tensors=True)[0]
    assert isinstance(image, tv_tensors.Image)
    assert isinstance(mask, tv_tensors.Mask)
    assert isinstance(target["boxes"], tv_tensors.BoundingBoxes)


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"masks": ["absent"]}, "no mask 'absent'; its masks: all, big"),
        ({"color": "rgb"}, "color is 'rgb', expected one of linear, srgb"),
        ({"labels": np.zeros((3, 1))}, "labels for 3 rows, but 12 samples"),
        ({"labels": np.zeros((12, 1)), "boxes": True}, "classes of boxes"),
        ({"labels": {"big": "("}, "boxes": True}, "not a regular expression"),
    ],
)
def test_what_does_not_fit_is_refused(dataset: Any, wrong: Any, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        dataset.torch(**wrong)


def test_a_set_without_images_is_refused(prefix: str, tmp_path: Path) -> None:
    (tmp_path / "x-metadata.pickle").write_bytes(Path(f"{prefix}-metadata.pickle").read_bytes())
    with pytest.raises(UsageError, match="no images"):
        load(str(tmp_path / "x")).torch()


def test_a_replaced_file_is_noticed(prefix: str, tmp_path: Path) -> None:
    rows = np.load(f"{prefix}-images.npy")
    np.save(tmp_path / "x-images.npy", rows)
    samples = load(str(tmp_path / "x")).torch()
    samples[0]
    np.save(tmp_path / "y.npy", rows[::-1])
    (tmp_path / "y.npy").rename(tmp_path / "x-images.npy")
    with pytest.raises(InputError, match="replaced"):
        samples[0]


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
    training = TorchDataset(labels, dataset.images)
    ((images, augmented, batch_labels),) = DataLoader(training, batch_size=12)
    assert images.shape == augmented.shape == (12, 3, 24, 32)
    assert batch_labels.tolist() == labels.tolist()
    assert not torch.allclose(augmented, (images - mean) / std, atol=1e-2)
