"""What each photo of the sample is to be: everything that is rare is dealt out beforehand."""

import hashlib
import itertools
from collections import defaultdict
from dataclasses import dataclass
from random import Random

MAIN = ("Cat", "Dog", "Hamburger", "Sandwich")
_SITUATIONS = {"occluded": 0.15, "truncated": 0.1, "depiction": 0.07, "group": 0.04, "inside": 0.04}
_RIVAL = {"Cat": "Dog", "Dog": "Cat", "Hamburger": "Sandwich", "Sandwich": "Hamburger"}
# Read from the left for each category: its first three photos already fill all three subsets.
_SUBSETS = "rtvrrtrrrtrvrrrtrrrr"
_SUBSET_NAMES = {"r": "train", "t": "test", "v": "validation"}


@dataclass
class Plan:
    """What one photo is to be; the drawing follows from it alone."""

    image_id: str
    name: str
    subset: str
    wanted: list[str]
    situation: str
    seed: str
    author: int
    take: int = 0
    rotation: int | None = 0
    grey: bool = False
    thumbnail: bool = False
    response: str | None = None


def plans_for(seed: int, photos: int) -> list[Plan]:
    """Decide what each photo is to be: everything that is rare is dealt out, not left to chance."""
    rng = Random(f"plans {seed}")
    plans = []
    # In turn and not by chance, so that the categories stay balanced within each subset.
    numbers = defaultdict(lambda: itertools.cycle((1, 2, 1, 3, 2)))
    for index in range(photos):
        category = MAIN[index % len(MAIN)]
        digest = hashlib.sha256(f"{seed} {index}".encode()).hexdigest()
        subset = _SUBSET_NAMES[_SUBSETS[index // len(MAIN) % len(_SUBSETS)]]
        wanted = [category] * next(numbers[category, subset])
        name = f"{int(digest[16:24], 16):010d}_{digest[24:34]}"
        plans.append(Plan(digest[:16], name, subset, wanted, "plain", digest, rng.randrange(1000)))
    deck = _Deck(rng, photos)
    for situation, share in _SITUATIONS.items():
        for index in deck.deal(share):
            plans[index].situation = situation
            if situation == "group":
                plans[index].wanted = plans[index].wanted[:1]
    for number, index in enumerate(_Deck(rng, photos).deal(0.16, least=4)):
        wanted = plans[index].wanted
        other = _RIVAL[wanted[0]] if number % 2 else rng.choice([c for c in MAIN if c != wanted[0]])
        plans[index].wanted = [wanted[0], other]
    deck = _Deck(rng, photos)
    for number, index in enumerate(deck.deal(0.1, least=3)):
        plans[index].rotation = (90, 270, 180)[number % 3]
    for index in deck.deal(0.04):
        plans[index].rotation = None
    for index in deck.deal(0.03):
        plans[index].grey = True
    for index in deck.deal(0.33):
        plans[index].thumbnail = True
    _bursts(rng, plans)
    # Gone photos are train photos, so that a small sample keeps some of all in each subset.
    train = [plan for plan in plans if plan.subset == "train"]
    deck = _Deck(rng, len(train))
    for response, share in (("gone", 0.02), ("placeholder", 0.02), ("busy-once", 0.02)):
        for index in deck.deal(share):
            train[index].response = response
    return plans


class _Deck:
    """Deals out the numbers below `count`, each at most once."""

    def __init__(self, rng: Random, count: int):
        self._count = count
        self._left = rng.sample(range(count), count)

    def deal(self, share: float, least: int = 1) -> list[int]:
        """Return about `share` of all numbers."""
        number = max(least, round(share * self._count))
        dealt, self._left = self._left[:number], self._left[number:]
        return dealt


def _bursts(rng: Random, plans: list[Plan]) -> None:
    """Let some photos be another take of one by the same author, now and then in another subset."""
    later = len(MAIN)
    train = [i for i in range(len(plans) - 2 * later) if plans[i].subset == "train"]
    for number, index in enumerate(rng.sample(train, max(2, len(plans) // 60))):
        first = plans[index]
        twins = [p for p in plans[index + later :: later] if p.subset == "train" and not p.take]
        if number % 2:
            twins = [p for p in plans[index % later :: later] if p.subset == "test" and not p.take]
        if first.take:
            continue
        for take, plan in enumerate(twins[: 1 + (number % 4 == 0)], start=1):
            plan.take, plan.seed, plan.author = take, first.seed, first.author
            plan.wanted, plan.situation = first.wanted, first.situation
            plan.rotation, plan.grey = first.rotation, first.grey
