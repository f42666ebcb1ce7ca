"""What the built-in writer understands of an idea: English words, and what they are in the toy box."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from videopoet.data.toybox_world import COLOURS, KINDS, MAX_SUBJECTS, SHAPES, SIZES
from videopoet.sequence.cameras import CAMERA_MOVES

Role = Literal["start", "way", "end"]


def _table(**rows: str) -> dict[str, str]:
    return {word: meaning for meaning, words in rows.items() for word in words.split()}


_SHAPES = {shape: shape for shape in SHAPES} | _table(
    ball="sphere orb globe marble bubble balloon sun",
    square="box cube block brick crate robot",
    triangle="pyramid cone",
    diamond="gem jewel crystal treasure",
    plus="cross",
    raccoon="racoon",
    fish="goldfish whale shark dolphin",
    rocket="spaceship spacecraft shuttle starship",
)
_COLOURS = {colour: colour for colour in COLOURS} | _table(
    red="crimson scarlet ruby", yellow="gold golden", blue="azure", purple="violet", white="silver", green="emerald"
)
_SIZES = {size: size for size in SIZES} | _table(small="little tiny wee", big="large huge giant great enormous")
_KINDS = {kind: kind for kind in KINDS} | _table(
    grass="meadow field park garden lawn hill hills countryside farm",
    sea="ocean water lake river waves shore coast",
    sand="desert beach dune dunes",
    night="moon space midnight dark darkness evening",
    snow="winter ice mountain mountains glacier pole arctic",
    street="city town road village",
    room="house home kitchen floor indoors bedroom",
    forest="woods wood jungle trees",
)
_AIR = frozenset("sky air cloud clouds heaven".split())
_MOTIONS = _table(
    travel="travel go walk run move journey wander roll slide drive ride swim sail crawl march hike race hurry drift "
    "head escape leave search seek explore chase follow cross visit reach arrive went ran drove rode swam "
    "sneak stroll roam voyage",
    bounce="bounce jump hop leap dance skip play celebrate",
    fly="fly soar float glide hover flew",
    up="rise climb launch ascend lift rose",
    down="descend sink dive sank dove",
    fall="fall drop tumble crash fell",
    still="rest sleep stand stop wait sit stay nap relax pause slept stood sat",
    grow="grow swell expand grew",
    shrink="shrink dwindle shrank",
    orbit="circle orbit spin twirl revolve whirl",
    back="return",
)
_COUNTS = {"two": 2, "three": 3, "pair": 2, "both": 2}
_START = frozenset("from leave leaves leaving out off".split())
_END = frozenset("to towards toward into reach reaches reaching until for visit visits find finds see".split())
_ARTICLES = frozenset("a an the its his her their my our".split())
_SILENT = (
    _ARTICLES
    | _START
    | _END
    | frozenset(
        """and or but then that this these those it he she they we i you who which what when where while as is are was
    were be been being has have had do does did will would can could in on at by of with without through across
    over under above below near past along via up down again back once upon time there here finally first next
    last about after before day one film movie story video clip scene some all very so not no just its left
    right another other away around between together each""".split()
    )
)


@dataclass(frozen=True)
class Named:
    """A subject that an idea names; what it leaves open is None."""

    shape: str
    colour: str | None = None
    size: str | None = None


@dataclass
class Understood:
    """What was found in an idea, in the order of its words."""

    subjects: list[Named] = field(default_factory=list)
    places: list[tuple[str, Role]] = field(default_factory=list)
    """Kinds of scenery, and whether the way begins there, leads through, or ends there."""
    motions: list[str] = field(default_factory=list)
    """Keys of the toy box's verbs, or `travel`."""
    cameras: list[str] = field(default_factory=list)
    leftwards: bool = False
    in_the_air: bool = False
    unknown: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not (self.subjects or self.places or self.motions)


def understand(idea: str) -> Understood:
    """Read an idea."""
    text = " ".join("".join(one if one.isalnum() or one in " '-" else " " for one in idea.lower()).split())
    found = Understood()
    for camera in CAMERA_MOVES:
        if camera in text:
            found.cameras.append(camera)
            text = text.replace(camera, " ")
    words = [word.removesuffix("'s") for word in text.replace("-", " ").split()]
    colour = size = None
    count = 1
    for index, word in enumerate(words):
        before = words[max(0, index - 3) : index]
        article = bool(before) and before[-1] in _ARTICLES
        roots = _roots(word)
        if word in ("left", "right") and "to" not in before[-1:]:
            found.leftwards = word == "left" or found.leftwards
        if word in _COLOURS and not (word == "orange" and index + 1 == len(words)):
            colour = _COLOURS[word]
        elif word in _SIZES:
            size = _SIZES[word]
        elif word in _COUNTS:
            count = _COUNTS[word]
        elif word in _AIR:
            found.in_the_air, colour, size = found.in_the_air or _role(before) != "start", None, None
        elif word == "stars" and article and found.subjects:
            found.places.append(("night", _role(before)))
        elif not article and (motion := _first(_MOTIONS, roots)) and not (word in _SHAPES or word in _KINDS):
            _add_motion(found, motion)
            colour = size = None
        elif kind := _first(_KINDS, roots):
            if kind not in [known for known, _ in found.places]:
                found.places.append((kind, "end" if word == "home" and _role(before) != "start" else _role(before)))
            colour = size = None
        elif shape := _first(_SHAPES, roots):
            _add_subjects(found, Named(shape, colour, size), count, article and before[-1] == "the")
            colour = size = None
            count = 1
        elif motion := _first(_MOTIONS, roots):
            _add_motion(found, motion)
        elif word not in _SILENT:
            found.unknown.append(word)
    return found


def _add_motion(found: Understood, motion: str) -> None:
    if motion == "back":
        motion, found.leftwards = "travel", True
    if motion == "fly":
        motion, found.in_the_air = "travel", True
    if motion not in found.motions:
        found.motions.append(motion)


def _add_subjects(found: Understood, named: Named, count: int, definite: bool) -> None:
    alike = [one for one in found.subjects if one.shape == named.shape]
    if alike and (definite or named in alike) and named.colour in (None, *[one.colour for one in alike]):
        return  # "the ball" is the one that was named before
    room = MAX_SUBJECTS - len(found.subjects)
    found.subjects += [named] * min(count, room)


def _role(before: list[str]) -> Role:
    """What the words before a place make of it; the nearest one that says so counts."""
    for word in reversed(before):
        if word in _START:
            return "start"
        if word in _END:
            return "end"
        if word in ("in", "on", "at", "through", "across", "over", "under", "via", "past", "along"):
            return "way"
    return "way"


def _first(table: dict[str, str], roots: list[str]) -> str | None:
    return next((table[root] for root in roots if root in table), None)


def _roots(word: str) -> list[str]:
    """A word, and what it may be a form of."""
    roots = [word]
    for ending, instead in (("ies", "y"), ("es", ""), ("es", "e"), ("s", ""), ("ing", ""), ("ing", "e"), ("ed", "")):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            roots.append(word[: -len(ending)] + instead)
    roots += [word[:-1]] if word.endswith("ed") else []
    # hopping, stopped: the last letter is doubled
    roots += [root[:-1] for root in roots if len(root) > 3 and root[-1] == root[-2]]
    return roots
