"""What each photo of the sample shows: everything rare is dealt out and not left to chance."""

import hashlib
import itertools
from collections import defaultdict
from dataclasses import dataclass, replace
from random import Random

from openimager.store import SUBSETS

MAIN = ("Cat", "Dog", "Hamburger", "Sandwich")
SITUATIONS = {"occluded": 0.15, "truncated": 0.1, "depiction": 0.07, "group": 0.04, "inside": 0.04}
# The subset of each category's photos, in turn: the first three already fill all three subsets.
_SUBSETS = "02100200020100020000"


@dataclass
class Plan:
    """What one photo shows; the drawing depends on nothing else."""

    image_id: str
    name: str
    subset: str
    wanted: list[str]
    seed: str
    situation: str = "plain"
    take: int = 0  # number of the photo in a burst
    rotation: int | None = 0
    grey: bool = False
    thumbnail: bool = False
    response: str | None = None  # "gone", "placeholder" or "busy-once"; None: the photo


def plans_for(seed: int, photos: int) -> list[Plan]:
    """Return the plans of all photos."""
    rng, plans = Random(f"plans {seed}"), []
    # In turn, so that the categories stay balanced within each subset.
    numbers = defaultdict(lambda: itertools.cycle((1, 2, 1, 3, 2)))
    for index in range(photos):
        category = MAIN[index % len(MAIN)]
        digest = hashlib.sha256(f"{seed} {index}".encode()).hexdigest()
        subset = SUBSETS[int(_SUBSETS[index // len(MAIN) % len(_SUBSETS)])]
        wanted = [category] * next(numbers[category, subset])
        name = f"{int(digest[16:24], 16):010d}_{digest[24:34]}"
        plans.append(Plan(digest[:16], name, subset, wanted, digest, thumbnail=index % 3 == 1))
    deal = _dealer(rng, plans)
    for situation, share in SITUATIONS.items():
        for plan in deal(share):
            plan.situation = situation
            plan.wanted = plan.wanted[:1] if situation == "group" else plan.wanted
    for number, plan in enumerate(_dealer(rng, plans)(0.16, least=4)):
        first = MAIN.index(plan.wanted[0])
        # Every second time its rival: cat and dog, hamburger and sandwich.
        other = first ^ 1 if number % 2 else (first + rng.randint(1, 3)) % 4
        plan.wanted = [MAIN[first], MAIN[other]]
    deal = _dealer(rng, plans)
    for number, plan in enumerate(deal(0.1, least=3)):
        plan.rotation = (90, 270, 180)[number % 3]
    for plan in deal(0.04):
        plan.rotation = None
    for plan in deal(0.03):
        plan.grey = True
    _add_bursts(rng, plans)
    # Only train photos are gone, so that a small sample keeps some of everything in each subset.
    deal = _dealer(rng, [plan for plan in plans if plan.subset == "train"])
    for response in ("gone", "placeholder", "busy-once"):
        for plan in deal(0.02):
            plan.response = response
    return plans


def _dealer(rng: Random, plans: list[Plan]):
    """Return a function that returns about a share of all plans, each plan at most once."""
    left = iter(rng.sample(plans, len(plans)))

    def deal(share: float, least: int = 1) -> list[Plan]:
        return list(itertools.islice(left, max(least, round(share * len(plans)))))

    return deal


def _add_bursts(rng: Random, plans: list[Plan]) -> None:
    """Turn some photos into further takes (a burst) of a train photo; some of these are in test."""
    later = len(MAIN)
    train = [i for i in range(len(plans) - 2 * later) if plans[i].subset == "train"]
    for number, index in enumerate(rng.sample(train, max(2, len(plans) // 60))):
        first, subset = plans[index], ("train", "test")[number % 2]
        start = index % later if number % 2 else index + later
        twins = [i for i in range(start, len(plans), later) if plans[i].subset == subset]
        twins = [i for i in twins if not plans[i].take and i != index]
        for take, i in enumerate(twins[: 1 + (number % 4 == 0)] * (not first.take), start=1):
            old = plans[i]
            plans[i] = replace(
                first, take=take, image_id=old.image_id, name=old.name, subset=subset
            )
