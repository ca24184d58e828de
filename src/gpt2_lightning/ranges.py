"""Numbers with a range, for constructor signatures: the command line refuses a value outside it.

A type checker sees plain `int` and `float`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    BPEVocabSize = PositiveInt = NonNegativeInt = Seed = int
    PositiveFloat = NonNegativeFloat = OpenUnitInterval = ClosedUnitInterval = float
    PositiveUnitInterval = ShareBelowOne = float
else:
    from jsonargparse.typing import ClosedUnitInterval as ClosedUnitInterval
    from jsonargparse.typing import NonNegativeFloat as NonNegativeFloat
    from jsonargparse.typing import NonNegativeInt as NonNegativeInt
    from jsonargparse.typing import OpenUnitInterval as OpenUnitInterval
    from jsonargparse.typing import PositiveFloat as PositiveFloat
    from jsonargparse.typing import PositiveInt as PositiveInt
    from jsonargparse.typing import restricted_number_type

    BPEVocabSize = restricted_number_type(
        "BPEVocabSize",
        int,
        [(">=", 257), ("<=", 2**24)],
        docstring="int from 257 (256 bytes, end-of-text) to 2²⁴",
    )
    PositiveUnitInterval = restricted_number_type(
        "PositiveUnitInterval", float, [(">", 0), ("<=", 1)], docstring="float >0 and ≤1"
    )
    Seed = restricted_number_type("Seed", int, [(">=", 0), ("<", 2**63)], docstring="int ≥0 and <2⁶³")
    ShareBelowOne = restricted_number_type(
        "ShareBelowOne", float, [(">=", 0), ("<", 1)], docstring="float ≥0 and <1"
    )
