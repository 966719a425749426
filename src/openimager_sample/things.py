"""What else lies about in a scene and may hide a part of the subject, as drawings for `Pen`."""

_LEAVES = (
    *((-43, -2, "-20"), (-35, -21, "+10"), (-23, -37, ""), (-8, -45, "-10"), (8, -45, "+20")),
    *((23, -37, "-5"), (35, -21, ""), (43, -2, "+15")),
)
_LEAF = "line leaf{2} 11 .1 0 14 {0}~0 {1}~0 {0} {1};"
THINGS = {
    "Ball": "oval first 0 0 45 45; curve second -43 -10 0 -2 43 -10 43 10 0 18 -43 10",
    "Houseplant": "".join(_LEAF.format(*leaf) for leaf in _LEAVES)
    + "fill first -22 10 22 10 16 50 -16 50",
    "Coffee cup": """
        oval first 32 2 16 18; oval first-50 32 2 9 11; fill first -34 -36 34 -36 26 40 -26 40
        oval first+30 0 -36 34 8; oval coffee 0 -35 29 6
        """,
    "Book": """
        fill first -46 24 46 24 46 40 -46 40; fill white-10 36 26 46 26 46 38 36 38
        fill second -40 11 42 11 42 24 -40 24; fill white-10 34 13 42 13 42 22 34 22
        fill first-25 -42 -6 38 -6 38 11 -42 11; fill white-10 28 -4 38 -4 38 9 28 9
        """,
    "Bottle": """
        mirror first 0 -50 6 -50 7 -24 17 -8 17 44 10 50 0 50; fill second -17 5 17 5 17 30 -17 30
        """,
    # Cushions are not among the boxable categories.
    None: """
        mirror first 0 -30 46 -36 40 0 46 36 0 30; &line first-20 4 1 20 -28 20 28
        line first+30 4 1 0 -28 0 28
        """,
}
