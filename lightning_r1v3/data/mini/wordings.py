"""How each domain words its questions: a table of 20 rows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Wording:
    """A domain's nouns and ways of asking."""

    view: str
    """What the picture is called, e.g. `slide`."""
    items: str
    """Plural noun for the coloured shapes."""
    numbers: str
    """Plural noun for the digits."""
    bars: str
    """Plural noun for the bars."""
    figure: str
    """Singular noun for the rectangle or triangle."""
    frames: tuple[str, str]
    """Two ways to ask; `{}` takes the noun phrase of what is wanted."""

    def name(self, quantity: str) -> str:
        """Returns the noun phrase `quantity` with the domain's nouns in its placeholders, e.g. `{items}`."""
        return quantity.format(items=self.items, numbers=self.numbers, bars=self.bars, figure=self.figure)


WORDINGS: dict[str, Wording] = {
    "mathematics": Wording("figure", "shapes", "digits", "bars", "figure", ("What is {}?", "Find {}.")),
    "physics": Wording(
        "diagram", "particles", "readings", "levels", "plate", ("Find {}.", "Measure {} in the diagram.")
    ),
    "chemistry": Wording(
        "chart", "molecules", "charges", "levels", "plate", ("Determine {}.", "What is {} in the chart?")
    ),
    "biology": Wording("slide", "cells", "counts", "samples", "tissue", ("What is {}?", "Determine {} on the slide.")),
    "engineering": Wording("plan", "parts", "readings", "loads", "plate", ("Compute {}.", "From the plan, find {}.")),
    "agriculture": Wording("map", "plants", "counts", "yields", "field", ("Report {}.", "On the map, what is {}?")),
    "environmental_science": Wording(
        "map", "sites", "readings", "levels", "area", ("Report {}.", "Measure {} on the map.")
    ),
    "computer_science": Wording(
        "screen", "nodes", "digits", "loads", "window", ("Return {}.", "Compute {} on the screen.")
    ),
    "medicine": Wording("scan", "spots", "readings", "doses", "region", ("Report {}.", "On the scan, determine {}.")),
    "pharmacy": Wording("label", "pills", "doses", "doses", "label", ("Check {}.", "From the label, give {}.")),
    "music": Wording("score", "notes", "beats", "tones", "page", ("Count out {}.", "In the score, what is {}?")),
    "literature": Wording("page", "signs", "marks", "lines", "page", ("Give {}.", "On the page, what is {}?")),
    "philosophy": Wording(
        "picture", "ideas", "marks", "bars", "figure", ("Tell me {}.", "Consider the picture: what is {}?")
    ),
    "history": Wording("map", "coins", "marks", "towers", "field", ("State {}.", "On the old map, what is {}?")),
    "economics": Wording("chart", "goods", "prices", "prices", "market", ("Compute {}.", "In the chart, what is {}?")),
    "psychology": Wording("card", "cues", "scores", "scores", "card", ("Name {}.", "On the card, what is {}?")),
    "political_science": Wording(
        "poll", "votes", "counts", "votes", "region", ("State {}.", "In the poll, what is {}?")
    ),
    "sociology": Wording("survey", "people", "scores", "groups", "area", ("Report {}.", "In the survey, what is {}?")),
    "education": Wording("board", "cards", "marks", "grades", "board", ("Work out {}.", "On the board, what is {}?")),
    "law": Wording("record", "seals", "counts", "terms", "estate", ("Establish {}.", "From the record, state {}.")),
}
"""The wording of each domain by its name."""
