"""No screening: the server trains on whatever arrives. Choose it wherever scores of first updates decide."""

from __future__ import annotations

from typing import Literal

from hpcfsl.defense.screening.screening import Screening, screenings


@screenings.register
class NoScreening(Screening):
    """Use the smashed data of every client."""

    rule: Literal["none"] = "none"
