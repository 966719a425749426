"""Cats and dogs: the same coats and poses, so that neither colour nor pose tells them apart."""

from openimager_sample.pen import Pen, hue, shade, vary

COATS = (
    *((46, 42, 44), (92, 92, 100), (150, 148, 150), (214, 208, 200), (240, 236, 228)),
    *((206, 140, 74), (226, 178, 116), (150, 98, 58), (96, 64, 44), (184, 152, 116)),
)
EYES = ((140, 200, 70), (150, 200, 90), (224, 186, 50), (206, 150, 50), (110, 160, 200))

_LEGS = """
    line dark {leg} .6 -20 6 {back} 43; line dark {leg} .6 24 6 {back2} 43
    line fur {leg} .6 -28 6 {front} 43; line fur {leg} .6 33 6 {front2} 43
    """
_PAWS = "oval belly {front} 44 {paw} 3.4; oval belly {front2} 44 {paw} 3.4; oval belly -7 13 21 5"
_SITTING = "&line fur {leg} 1 9 8 9.5 48; &oval belly 10 51 {paw} 4.8; &line dark 1.2 1 17 29 16 46"
# For each pose: what is behind the body, the body, stripes or patches, what is in front of it.
_CAT = {
    "face": ("", "mirror fur 0 20 34 28 52 62 0 66", "", ""),
    "sits": (
        "line dark 8.5 .7 16 44 42 40 46 12 38 -20~-4",
        "mirror fur 0 -20 15 -12 24 16 29 40 17 53 0 53; oval belly 0 12 12 26",
        "&line dark 3.5 .3 25 5 15 9; &line dark 3.5 .3 25 16 15 20; &line dark 3.5 .3 25 27 15 31",
        _SITTING,
    ),
    "stands": (
        "line dark 7.5 .7 34 0 45 -14 44 -36 34~58 -52" + _LEGS,
        "curve fur -38 -6 -20 -12 8 -20~-12 32 -12 41 4 34 18 10 15 -14 19 -34 14",
        ";".join(f"line dark 3.5 .3 {x} -11 {x + 2} 6" for x in (-10, 0, 10, 20, 29)),
        _PAWS,
    ),
    "lies": (
        "line dark 8.5 .7 42 28 52 36 30 42 0 40",
        "curve fur -44 24 -36 0 -5 -12 28 -10 48 12 46 34 10 40 -36 38",
        ";".join(f"line dark 4 .3 {x} -9 {x + 5} 12" for x in (2, 12, 22, 32)),
        "line dark 8 .8 50 30 40 39 20 41 2 39; oval belly -36 38 8 4; oval belly -20 38 8 4",
    ),
}
_DOG = {
    "face": ("", "mirror fur 0 20 26 34 44 64 0 68", "", ""),
    "sits": (
        "line dark 10 .5 16 44 36 42 45 20~36",
        "mirror fur 0 -20 20 -14 26 10 31 38 22 53 0 52; oval belly 0 6 14 22",
        "oval mark 16 10 11 15 20",
        _SITTING,
    ),
    "stands": (
        "line fur 10 .5 36 -8 48 -14 54 -30~-2" + _LEGS,
        "curve fur -42 -10 -20 -17 10 -15 34 -15 42 0 34 13 12 10 -12 20 -36 16",
        "oval mark 10 -4 15 10 8",
        _PAWS,
    ),
    "lies": (
        "line dark 9 .5 40 24 54 30 58 38",
        "curve fur -42 26 -32 -2 0 -8 30 -4 48 16 46 36 10 40 -36 40",
        "oval mark 18 6 15 11 10",
        """
        oval dark 34 30 15 12; oval fur 34 29 14 11
        line fur 12 1 -36 30 -48 40; line fur 12 1 -8 30 -20 40
        oval belly -49 41 9 5; oval belly -21 41 9 5
        """,
    ),
}
_CAT_EARS = """
    &fill fur 46 0 44 {tip} 5 -30; &fill pink 39 -16 39.5 {inner} 17 -30
    mirror fur 0 -36 28 -32 46 -6 50 14 34 33 13 42 0 43
    """
_CAT_STRIPES = """
    &line dark 5 .4 14.4 -35 9.6 -17; line dark 5 .4 0 -35 0 -17
    &line dark 4 .3 47 6 33 9; &line dark 4 .3 47 17 33 20
    """
_CAT_FACE = """
    &oval belly 8.5 22 13 10; oval belly 0 31 10 8
    &oval black 21 -3 12.5 {rim} -12; &oval iris 21 -3 10.8 {iris} -12
    &oval black 21 -3 2.8 {iris}; oval white 24 -6 2.2 2.2; oval white -18 -6 2.2 2.2
    fill nose -5.5 11.5 5.5 11.5 0 17.5; line belly-55 1.6 1 0 17 0 22.5
    &line belly-55 1.8 1 0 22.5 6 26.5 13 24; &line whisker 1.5 .5 13 17 64 8~16
    &line whisker 1.5 .5 13 20 64 17~25; &line whisker 1.5 .5 13 23 64 26~34
    """
_DOG_FACE = """
    &oval belly {half} 24 {cheek} 16; oval belly 0 14 {bridge} 17
    line belly-60 2 1 0 18 0 32; &line belly-60 2.4 1 0 32 10 37 20 31
    &oval belly-60 9 22 .9 .9; &oval belly-60 14 26 .9 .9; &oval belly-60 10 29 .9 .9
    mirror black 0 3 10 5 11 11 5 18 0 19; oval black+45 -3 7 3.5 1.8
    &oval fur-50 17 -10 7.2 7.5; &oval brown 17 -10 6 6.2; &oval black 17 -10 3.6 3.8
    oval white 19 -12 1.6 1.6; oval white -15 -12 1.6 1.6; &line dark 2.2 1 11 -22 20 -23
    """
_DOG_EAR = "&curve flap 16 -40 36 -40 50 -16 54 {tip} 43 {end} 33 {inner} 26 -20"
_DOG_PROFILE = """
    curve fur 36 24 34 -16 14 -36 -10 -30 -22 -8 {nose} 0 {nose} 13 -34 20 -6 26 12 42
    curve belly -20 2 {nose} 3 {nose} 12 -30 17 -12 16
    line belly-60 2 1 {nose} 12 -30 16 -12 14; oval black {nose} 1 7 5.5
    oval brown -8 -12 5.6 5.6; oval black -8.5 -12 3.6 3.6; oval white -10 -14 1.4 1.4
    curve flap 6 -32 24 -32 38 0 34 {hang} 20 {hang} 10 -6
    """


def cat(pen: Pen) -> None:
    """Draw a cat: pointed ears, slit pupils, whiskers, a thin tail that stands up."""
    rng, striped = pen.rng, pen.rng.random() < 0.6
    pose = _body(pen, _CAT, striped, leg=10.5, paw=6.5)
    pen.colours |= {"iris": vary(rng, EYES), "nose": vary(rng, [(200, 106, 114)], 30)}
    with _head(pen, pose):
        tip, eye = rng.uniform(-66, -56), rng.uniform(0.7, 1.1)
        pen.draw(_CAT_EARS + _CAT_STRIPES * striped, tip=tip, inner=tip + 12)
        pen.draw(_CAT_FACE, rim=10 * eye, iris=8.3 * eye)


def dog(pen: Pen) -> None:
    """Draw a dog: hanging ears, a long muzzle with a big nose, often a tongue, a sturdy body."""
    rng, colours = pen.rng, pen.colours
    pose = _body(pen, _DOG, rng.random() < 0.5, leg=13, paw=8)
    colours |= {"brown": (70, 44, 28), "tongue": (220, 96, 110)}
    colours["flap"] = colours["mark"] if colours["mark"] != colours["fur"] else colours["dark"]
    if pose == "stands" and rng.random() < 0.6:
        with pen.at(-42, rng.uniform(-28, -22), 0.58, rng.uniform(-10, 14)):
            pen.draw("curve tongue -30 16 -36 34 -28 40 -20 20" * (rng.random() < 0.5))
            pen.draw(_DOG_PROFILE, nose=rng.uniform(-66, -52), hang=rng.uniform(20, 42))
        return
    with _head(pen, pose):
        ears = rng.choice(("short", *3 * ("hanging",), *4 * ("long",), "pricked"))
        if ears == "pricked":
            pen.draw("&curve flap 30 -12 36 -56 22 -50 6 -36")
        pen.draw("mirror fur 0 -42 22 -39 35 -20 34 2 25 20 22 36 12 46 0 48")
        pen.draw("curve belly -5 -42 5 -42 7 0 -7 0" * (rng.random() < 0.4))
        pen.draw("oval mark 17 -10 13 16" * (rng.random() < 0.3))
        if rng.random() < 0.7:
            far = rng.uniform(50, 66)
            pen.draw(f"mirror tongue 0 30 8.5 34 10 {far - 6} 5 {far} 0 {far}")
            pen.draw(f"line tongue-25 1.4 1 0 36 0 {far - 6}")
        half = rng.uniform(9.5, 12.5)
        pen.draw(_DOG_FACE, half=half, cheek=half * 1.24, bridge=half * 1.6)
        if ears != "pricked":
            tip = {"short": 6, "hanging": 22, "long": 40}[ears] + rng.uniform(-4, 4)
            pen.draw(_DOG_EAR, tip=tip, end=tip + 10, inner=tip / 2)


def _body(pen: Pen, poses: dict, marked: bool, **sizes: float) -> str:
    """Choose the colours and draw everything but the head; return the pose."""
    rng = pen.rng
    fur, other = vary(rng, COATS), vary(rng, COATS)
    dark = shade(fur, -0.28)
    pen.colours |= {"fur": fur, "dark": dark, "mark": rng.choice((dark, other))}
    pen.colours["belly"] = rng.choice((fur, shade(fur, 0.35), vary(rng, [(238, 232, 224)])))
    pen.colours["whisker"] = shade(fur, -0.6 if sum(fur) > 240 else 0.35)
    pen.colours |= {"collar": hue(rng, 0.7, 0.65), "brass": (226, 196, 90)}
    pose, step = rng.choice(("sits", "stands", *poses)), rng.uniform(-6, 6)
    behind, outline, marks, before = poses[pose]
    sizes |= {"back": -20 - step, "back2": 24 - step, "front": -28 + step, "front2": 33 + step}
    with pen.at(mirror=pose == "sits" and rng.random() < 0.5):
        pen.draw(behind, **sizes)
    pen.draw(outline + ";" + marks * marked + ";" + before, **sizes)
    if pose == "sits" and rng.random() < 0.35:
        pen.draw("line collar 5 1 -14 -15 0 -10 14 -15; oval brass 0 -7 3 3")
    return pose


def _head(pen: Pen, pose: str):
    """Return the context in which the head is drawn, 100 units wide."""
    places = {"face": (0, -4, 0.94), "sits": (0, -30, 0.61), "lies": (-25, -6, 0.63)}
    place = places.get(pose) or (-37, pen.rng.uniform(-25, -16), 0.54)
    return pen.at(*place, pen.rng.uniform(-13, 13))
