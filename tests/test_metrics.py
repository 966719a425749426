"""Metrics of the evaluation, compared with hand calculations and scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as theirs

from openimager import metrics
from openimager.errors import BadInput
from openimager.store import FLAGS

NAMES = ["Apple", "Banana", "Orange"]
TRUTH = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
PROBABILITIES = np.array([
    [0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.5, 0.1, 0.4], [0.2, 0.7, 0.1], [0.1, 0.9, 0.0],
    [0.3, 0.6, 0.1], [0.5, 0.2, 0.3], [0.1, 0.1, 0.8], [0.0, 0.3, 0.7], [0.4, 0.3, 0.3],
])  # fmt: skip
PREDICTED = PROBABILITIES.argmax(axis=1)
PHOTOS = list("aabbccddee")


def test_confusion_and_per_category_by_hand():
    """Counted by hand: 3 of 5 crops predicted as Apple are apples, 3 of 4 apples are found."""
    counts = metrics.confusion(TRUTH, PREDICTED, NAMES)
    assert counts.to_numpy().tolist() == [[3, 1, 0], [1, 2, 0], [1, 0, 2]]
    table = metrics.per_category(TRUTH, PREDICTED, NAMES)
    assert table.loc["Apple"].tolist() == pytest.approx([3 / 5, 3 / 4, 2 / 3, 4])
    assert table.loc["Orange"].tolist() == pytest.approx([1, 2 / 3, 0.8, 3])


def test_agrees_with_scikit_learn():
    """F1, accuracy, one-vs-rest AUC and the threshold sweep equal scikit-learn's."""
    table = metrics.per_category(TRUTH, PREDICTED, NAMES)
    assert table["F1"].mean() == pytest.approx(theirs.f1_score(TRUTH, PREDICTED, average="macro"))
    found = metrics.interval(TRUTH == PREDICTED, PHOTOS)
    assert found["accuracy"] == theirs.accuracy_score(TRUTH, PREDICTED)
    assert metrics.roc_auc(TRUTH, PROBABILITIES) == pytest.approx(
        theirs.roc_auc_score(TRUTH, PROBABILITIES, multi_class="ovr")
    )
    truth, scores = TRUTH == 1, PROBABILITIES[:, 1]
    for _, row in metrics.threshold_sweep(truth, scores, [0.25, 0.3, 0.65]).iterrows():
        called = scores >= row["Threshold"]
        assert row["Accuracy"] == theirs.accuracy_score(truth, called)
        assert row["Precision"] == theirs.precision_score(truth, called)
        assert row["Recall"] == pytest.approx(theirs.recall_score(truth, called))


def test_auc_without_a_category():
    """A category without crops is left out of the AUC; with one category the AUC is NaN."""
    some = TRUTH < 2
    expected = np.mean([
        theirs.roc_auc_score(TRUTH[some] == k, PROBABILITIES[some, k]) for k in (0, 1)
    ])  # fmt: skip
    assert metrics.roc_auc(TRUTH[some], PROBABILITIES[some]) == pytest.approx(expected)
    assert np.isnan(metrics.roc_auc(TRUTH[:4], PROBABILITIES[:4]))


def test_interval_resamples_photos_not_crops():
    """A hundred crops of four photos count as four observations, so the interval is wide."""
    correct = np.repeat([1, 1, 1, 0], 25)
    by_photo = metrics.interval(correct, np.repeat(list("abcd"), 25))
    by_crop = metrics.interval(correct, range(100))
    assert (by_photo["crops"], by_photo["photos"]) == (100, 4)
    assert by_photo["high"] - by_photo["low"] > 0.7
    assert 0.12 < by_crop["high"] - by_crop["low"] < 0.22


def test_interval_weighs_photos_by_their_crops():
    """The interval is centred on the share of correct crops, not on the mean over photos."""
    correct, photos = [1] * 90 + [0] * 30, [f"big{i // 9}" for i in range(90)]
    photos += [f"small{i}" for i in range(30)]
    found = metrics.interval(correct, photos)
    assert found["low"] < found["accuracy"] == 0.75 < found["high"]
    assert found["low"] > 0.5


def test_interval_of_a_perfect_score_is_not_a_point():
    """If all or no crops are correct, the bound is the exact binomial one of 20 trials."""
    assert metrics.interval([1] * 20, range(20))["low"] == pytest.approx(0.025 ** (1 / 20))
    assert metrics.interval([0] * 20, range(20))["high"] == pytest.approx(1 - 0.025 ** (1 / 20))


def test_interval_covers_the_truth_about_as_often_as_it_says():
    """Of 100 simulated test sets of accuracy 0.8, about 95 % have an interval that contains 0.8."""
    rng = np.random.default_rng(0)
    found = [metrics.interval(rng.random(120) < 0.8, range(120)) for _ in range(100)]
    assert 0.9 <= np.mean([i["low"] <= 0.8 <= i["high"] for i in found]) <= 0.99


def test_difference_is_paired():
    """Two models with the same errors differ by 0, with an interval of width 0."""
    first = np.arange(200) % 3 > 0
    same = metrics.difference(first, first, range(200))
    assert same == {"difference": 0, "low": 0, "high": 0}
    better = metrics.difference(first | (np.arange(200) < 40), first, range(200))
    assert better["low"] > 0 and better["difference"] == pytest.approx(14 / 200)


def test_one_seed_one_answer():
    """The same seed gives the same interval, another seed a different one."""
    correct = np.arange(150) % 7 > 0
    first = metrics.interval(correct, range(150))
    assert first == metrics.interval(correct, range(150))
    assert first != metrics.interval(correct, range(150), seed=1)


def test_calibration_by_hand():
    """Edges belong to the bin below, and gaps are weighted by the number of crops."""
    table = metrics.reliability(TRUTH, PROBABILITIES, PHOTOS, bins=5)
    assert table["Crops"].tolist() == [1, 4, 4, 1]
    assert table["From"].tolist() == [0.2, 0.4, 0.6, 0.8]
    gaps = [0.4 - 0, 0.55 - 0.75, 0.75 - 0.75, 0.9 - 1]
    expected = np.average(np.abs(gaps), weights=[1, 4, 4, 1])
    assert metrics.calibration_error(table) == pytest.approx(expected)
    assert metrics.reliability([0], [[1.0, 0.0]], ["a"])["To"].tolist() == [1.0]
    nothing = metrics.reliability([], np.empty((0, 2)), [])
    assert nothing.empty and nothing.columns.equals(table.columns)


def test_bins_have_intervals_by_photo():
    """A bin of three crops has a wide interval, a bin of many crops a narrow one."""
    truth = [0, 0, 1] + [0, 0, 1] * 60
    probabilities = [[0.65, 0.35]] * 3 + [[0.95, 0.05]] * 180
    few, many = metrics.reliability(truth, probabilities, range(183)).to_dict("records")
    assert few["Accuracy"] == many["Accuracy"] == pytest.approx(2 / 3)
    assert few["High"] - few["Low"] > 0.9 and many["High"] - many["Low"] < 0.16


def test_temperature_is_recovered():
    """If known probabilities are sharpened or flattened by a factor, this factor is found."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (8000, 3))
    true = metrics.scale(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), 1)
    truth = (rng.random((8000, 1)) > true.cumsum(axis=1)).sum(axis=1)
    for factor in (0.5, 3):
        told = metrics.scale(true, 1 / factor)
        found = metrics.fit_temperature(truth, told, range(8000))
        assert found == pytest.approx(factor, rel=0.05)
        scaled = metrics.scale(told, found)
        assert metrics.log_loss(truth, scaled) <= metrics.log_loss(truth, told) + 1e-9
        table = metrics.reliability(truth, scaled, range(8000))
        assert metrics.calibration_error(table) < 0.02
        assert (scaled.argmax(axis=1) == told.argmax(axis=1)).all()


def test_temperature_stays_where_the_crops_show_no_need():
    """Calibrated probabilities are unchanged, even if a few crops would fit slightly better."""
    rng = np.random.default_rng(1)
    confidence = rng.uniform(0.5, 1, 300)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    truth = (rng.random(300) > confidence).astype(int)
    assert metrics.fit_temperature(truth, probabilities, range(300)) == 1
    assert metrics.fit_temperature([0] * 8, [[0.8, 0.2]] * 8, range(8)) == 1
    assert metrics.fit_temperature([], np.empty((0, 2)), []) == 1
    assert metrics.fit_temperature([0], [[1.0]], [0]) == 1
    assert 0.2 < metrics.fit_temperature([0] * 80, [[0.8, 0.2]] * 80, range(80)) < 1
    # Errors in many crops of one photo do not count as evidence; errors in many photos do.
    truth, probabilities = [0] * 80 + [1] * 30, [[0.9, 0.1]] * 110
    assert metrics.fit_temperature(truth, probabilities, [*range(80), *[80] * 30]) == 1
    assert metrics.fit_temperature(truth, probabilities, range(110)) > 1
    with np.errstate(all="raise"):
        certain = metrics.scale([[1.0, 0.0]], 0.5)
    assert np.isfinite(certain).all() and metrics.log_loss([1], certain) < 30


def test_rejection_threshold_keeps_the_share():
    """Of 20 validation crops, 19 pass the threshold for 95 %, and fewer a higher one."""
    confidence = np.linspace(0.5, 0.975, 20)
    threshold = metrics.rejection_threshold(confidence, keep=0.95)
    assert (confidence >= threshold).sum() == 19
    assert (confidence >= threshold + 1e-6).sum() == 18
    assert metrics.rejection_threshold(confidence, keep=1) == 0.5
    assert metrics.rejection_threshold([]) == 0


def test_operating_point_is_the_lowest_that_reaches_the_precision():
    """Of the thresholds with the required precision, the one with the highest recall is used."""
    truth, scores = [0, 0, 1, 0, 1, 1, 1], [0.1, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    assert metrics.operating_point(truth, scores, 0.75) == 0.4
    assert metrics.operating_point(truth, scores, 0.9) == 0.6
    assert metrics.operating_point([0, 0], [0.3, 0.8], 0.5) is None


def test_share_rejected_has_an_interval():
    """interval uses the given name, and the exact binomial bound if nothing is rejected."""
    found = metrics.interval([False] * 30, range(30), name="rejected")
    assert found["rejected"] == 0 and found["high"] == pytest.approx(1 - 0.025 ** (1 / 30))


def test_planted_labels_are_suspected():
    """Labels swapped in 10 of 200 crops are found, the least likely label first."""
    rng = np.random.default_rng(0)
    truth = np.arange(200) % 2
    sure = rng.uniform(0.7, 0.9, 200)
    sure[:10], sure[7] = 0.95, 0.99
    probabilities = np.where(truth[:, None] == [0, 1], sure[:, None], 1 - sure[:, None])
    given = truth.copy()
    given[:10] = 1 - given[:10]
    found = metrics.suspects(given, probabilities)
    assert sorted(found) == list(range(10)) and found[0] == 7
    assert len(metrics.suspects(truth, probabilities)) == 0


def test_occlusion_finds_what_the_model_looks_at():
    """For a model that measures white in one corner, only hiding that corner has an effect."""

    def predict(pictures):
        white = pictures[:, 24:, :8].mean(axis=(1, 2, 3)) / 255
        return np.stack([1 - white, white], axis=1)

    picture = np.full((32, 32, 3), 255, "uint8")
    found = metrics.occlusion(predict, picture, 1, patch=0.25, steps=7)
    assert np.unravel_index(found.argmax(), found.shape) == (6, 0)
    assert found[6, 0] == pytest.approx(1 - 127 / 255)
    assert (found[:4] == 0).all() and (found[:, 3:] == 0).all()
    assert metrics.occlusion(predict, picture, 0, steps=7).min() == pytest.approx(127 / 255 - 1)
    assert (picture == 255).all()


def test_middle_and_surround_have_the_same_area():
    """Each pixel is greyed in exactly one of the two versions, about half in each."""
    pictures = np.random.default_rng(0).integers(128, 255, (2, 128, 128, 3)).astype("uint8")
    within, around = (metrics.greyed(pictures, middle) for middle in (True, False))
    assert ((within == 127) ^ (around == 127)).all()
    assert (within == 127).mean() == pytest.approx(0.5, abs=0.01)
    assert within.dtype == np.uint8 and (within[0, 0, 0] == pictures[0, 0, 0]).all()


@pytest.fixture
def crops():
    """Ten rows of crops.csv: two with unknown flags, boxes of 10, 64 and 300 pixels."""
    table = pd.DataFrame({"ImageID": PHOTOS, "Left": 0, "Upper": 0})
    for flag in FLAGS:
        table[flag] = [1, 1, 0, 0, 0, 0, 0, 0, -1, -1]
    table["Right"] = table["Lower"] = [10] * 3 + [64] * 3 + [300] * 4
    table["Source"] = ["xclick"] * 5 + ["activemil"] * 5
    return table


def test_slices_count_and_score_each_kind(crops):
    """Each value that occurs has a row with its crops, photos and accuracy."""
    table = metrics.slices(crops, TRUTH, PROBABILITIES).set_index(["Property", "Value"])
    assert table.loc[("All", "all"), "Crops"] == 10
    assert table.loc[("Occluded", "yes"), ["Crops", "Photos", "Accuracy"]].tolist() == [2, 1, 1]
    assert table.loc[("Depiction", "no"), "Crops"] == 6
    assert table.loc[("Flags", "unknown"), ["Crops", "Accuracy"]].tolist() == [2, 0.5]
    boxes = table.loc["Box", "Crops"]
    assert boxes.to_dict() == {"under 64 px": 3, "64 to 128 px": 3, "256 px and more": 4}
    assert table.loc["Source", "Accuracy"].to_dict() == {"activemil": 0.6, "xclick": 0.8}
    assert (table["Low"] <= table["Accuracy"]).all() and (table["Accuracy"] <= table["High"]).all()


def test_other_categories_and_leaks_are_named():
    """The error names the categories or leaked crops, and the notebook to run."""
    with pytest.raises(BadInput, match=r"Apple, Dog.*build-model"):
        metrics.check_categories(["Cat", "Dog"], ["Apple", "Dog"])
    with pytest.raises(BadInput, match=r"2 of 3 test crops were trained on \(a, c\)"):
        metrics.check_unseen({"a": "1", "b": "2", "c": "3"}, ["1", "3", "9"])
    metrics.check_unseen({"a": "1"}, ["2"])


def test_photos_must_match_crops():
    """A missing ImageID is an error; the sample is not shortened."""
    with pytest.raises(BadInput, match="2 crops, but 1 ImageIDs"):
        metrics.interval([1, 0], ["a"])
