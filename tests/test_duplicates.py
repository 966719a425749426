"""Near-duplicate photos are found and are never in two splits."""

import io

import numpy as np
import pandas as pd
import pytest
from builders import DataDir, counts, jpeg, scene
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from openimager import crops
from openimager.crops import split


@pytest.fixture
def site(tmp_path):
    """An empty data directory."""
    return DataDir(tmp_path / "data")


def bits(first: str, second: str) -> int:
    """Return the number of bits in which two hashes differ."""
    return (int(first, 16) ^ int(second, 16)).bit_count()


COPIES = {
    "compressed": lambda photo: Image.open(io.BytesIO(jpeg(photo, quality=40))),
    "smaller": lambda photo: photo.resize((photo.width // 2, photo.height // 2)),
    "brighter": lambda photo: ImageEnhance.Brightness(photo).enhance(1.15),
    "trimmed": lambda photo: photo.crop((6, 5, photo.width - 6, photo.height - 5)),
}


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_is_near_and_another_photo_is_not(copy):
    """The hash of an edited copy is near the original's; that of another photo is not."""
    photo = scene(640, 480)
    hashed = split.photo_hash(photo)
    assert len(hashed) == 64
    assert bits(hashed, split.photo_hash(COPIES[copy](photo))) <= split.DISTANCE
    random = np.random.default_rng(5).integers(0, 255, (9, 12, 3), dtype=np.uint8)
    other = Image.fromarray(random).resize((640, 480), Image.Resampling.BICUBIC)
    assert bits(hashed, split.photo_hash(other)) > split.DISTANCE


@pytest.mark.parametrize("top, bottom", [(128, 128), (120, 220), (250, 240)])
def test_featureless_photos_have_no_hash(top, bottom):
    """Photos without structure, such as walls or clear skies, are not grouped as duplicates."""
    levels = np.linspace(top, bottom, 480)[:, None].repeat(640, axis=1)
    noise = np.random.default_rng(0).normal(0, 2, levels.shape)
    sky = Image.fromarray((levels + noise).clip(0, 255).astype(np.uint8)).convert("RGB")
    assert split.photo_hash(sky) == ""
    assert split.group(pd.Series({"a": "", "b": ""})).to_dict() == {"a": "a", "b": "b"}


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 60), st.integers(0, 70), st.integers(0, 99))
def test_pairs_are_those_of_comparing_all(count, distance, seed):
    """near_pairs finds exactly the pairs that a plain comparison finds."""
    random = np.random.default_rng(seed)
    hashes = random.integers(0, 2**63, (count, 4), dtype=np.uint64)
    hashes[count // 2 :] = hashes[: count - count // 2] ^ np.uint64(0b1011)  # some near-duplicates
    words = [sum(int(word) << 64 * k for k, word in enumerate(row)) for row in hashes]
    expected = [
        [i, j]
        for i in range(count)
        for j in range(i + 1, count)
        if (words[i] ^ words[j]).bit_count() <= distance
    ]
    assert sorted(split.near_pairs(hashes, distance).tolist()) == expected


def test_a_group_is_named_by_its_smallest_id():
    """The name does not depend on the order, and chains of near-duplicates are one group."""
    chain = {"c": "00" * 32, "a": "00" * 31 + "0f", "b": "00" * 31 + "ff", "d": "ff" * 32}
    groups = split.group(pd.Series(chain), distance=4)
    assert groups.to_dict() == {"a": "a", "b": "a", "c": "a", "d": "d"}


def test_parts_have_their_shares():
    """The default shares are 70, 15 and 15 %; other shares can be given."""
    ids = [f"{number:016x}" for number in range(4000)]
    parts = pd.Series([split.split_of(image_id) for image_id in ids]).value_counts(normalize=True)
    for part, share in zip(("train", "validation", "test"), (0.70, 0.15, 0.15), strict=True):
        assert abs(parts[part] - share) < 0.03
    assert {split.split_of(image_id, (0, 1, 0)) for image_id in ids} == {"validation"}


groupings = st.dictionaries(st.integers(0, 30), st.integers(0, 6), min_size=1)


@settings(deadline=None)
@given(groupings, st.data())
def test_no_group_is_in_two_parts(grouping, data):
    """Each group is in one split; with official subsets, in the latest of its subsets."""
    ids = sorted(grouping)
    groups = pd.Series({i: min(k for k in ids if grouping[k] == grouping[i]) for i in ids})
    groups.index = groups.index.map("{:016x}".format)
    groups = groups.map("{:016x}".format)
    subset = groups.map(lambda _: data.draw(st.sampled_from(["train", "validation", "test"])))
    parts = split.assign_splits(groups, subset)
    assert parts[parts != ""].groupby(groups).nunique().eq(1).all()
    assert set(groups[parts != ""]) == set(groups)
    if subset.nunique() > 1:
        order = ["train", "validation", "test"]
        latest = subset.groupby(groups).transform(lambda own: max(own, key=order.index))
        assert parts.equals(subset.where(subset == latest, ""))
    one = pd.Series("train", groups.index)
    assert split.assign_splits(groups, one).groupby(groups).nunique().eq(1).all()


def test_crops_of_a_photo_and_of_its_copies_stay_together(site):
    """If split by hash, no ImageID and no duplicate group is in two splits."""
    photos = [busy(seed) for seed in range(12)]
    for photo in photos:
        for copy in (photo, COPIES["smaller"](photo)):
            image_id = site.photo(copy)
            site.box(image_id)
            site.box(image_id, (0, 0.5, 0, 0.5), category="Dog")
    frame = site.crop()
    assert frame["DuplicateGroup"].nunique() == 12
    assert frame.groupby("DuplicateGroup")["Subset"].nunique().eq(1).all()
    assert frame.groupby("DuplicateGroup")["ImageID"].nunique().eq(2).all()
    assert frame["Subset"].nunique() > 1
    on_disk = {path.split("/")[-1]: path.split("/")[0] for path in site.files()}
    for row in frame.itertuples():
        assert on_disk[f"{row.ImageID}_{row.n}.jpg"] == row.Subset


def test_a_copy_stored_turned_is_found(site):
    """Photos are compared upright, so a copy stored rotated is a duplicate."""
    photo = busy(1)
    site.box(site.photo(photo))
    site.box(site.photo(photo.rotate(-90, expand=True), rotation=90.0))
    assert site.crop()["DuplicateGroup"].nunique() == 1


def busy(seed) -> Image.Image:
    """Draw a picture that differs from those of other seeds."""
    small = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((320, 240), Image.Resampling.BICUBIC)


def test_adding_photos_moves_only_the_group_they_join(site):
    """New photos do not move others; photos that move with their group are reported."""
    for seed in range(20):
        site.box(site.photo(busy(seed), f"{seed + 100:016x}"))
    before = site.crop().set_index("ImageID")["Subset"]
    for seed in range(50, 60):
        site.box(site.photo(busy(seed), f"{seed:016x}"))
    after = site.crop()
    assert after.attrs["moved"] == []
    assert after.set_index("ImageID")["Subset"][before.index].equals(before)
    # A copy of photo 100 that sorts before it and alone would be in another split.
    copied = f"{100:016x}"
    first = next(
        f"{number:016x}"
        for number in range(50)
        if split.split_of(f"{number:016x}") != before[copied]
    )
    site.box(site.photo(COPIES["compressed"](busy(0)), first))
    last = site.crop()
    assert last.attrs["moved"] == [copied]
    assert counts(last, "made", "kept", "moved", "removed") == (1, 29, 1, 0)
    parts = last.set_index("ImageID")["Subset"]
    assert parts[copied] == parts[first] == split.split_of(first)
    assert parts.drop([first, copied])[before.index.drop(copied)].equals(before.drop(copied))


def test_what_repeats_a_later_subset_is_left_out(site):
    """With official subsets, train photos that repeat a validation or test photo are left out."""
    for seed, subsets in enumerate(
        [("train", "test"), ("validation", "test"), ("train", "validation"), ("train",), ("test",)]
    ):
        for subset in subsets:
            site.box(site.photo(COPIES["compressed"](busy(seed)), subset=subset))
    frame = site.crop()
    assert counts(frame, "repeats") == (3,)
    left_out = frame[frame["Error"] != ""]
    assert left_out["Error"].str.contains("repeats").all() and (left_out["CropPath"] == "").all()
    kept = frame[frame["Error"] == ""]
    assert kept["Subset"].tolist() == ["test", "test", "validation", "train", "test"]
    assert kept.groupby("DuplicateGroup")["Subset"].nunique().eq(1).all()
    assert len(site.files()) == 5
    again = crops.write_crops(site.data_dir, quiet=True)
    assert counts(again, "made", "kept", "repeats", "removed") == (0, 5, 3, 0)
    # Without its original in the test subset, the photo is used again.
    site.photos = {i: row for i, row in site.photos.items() if row["Subset"] != "test"}
    assert counts(site.crop(), "made", "repeats") == (2, 1)
