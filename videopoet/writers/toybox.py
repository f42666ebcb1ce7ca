"""The built-in writer: a story grammar over the toy box's words, offline and at once.

It follows what an idea names: subjects with their colours and sizes, places in the order of the way, verbs, cameras.
What the idea leaves open the seed decides; what it does not understand it says.
"""

from __future__ import annotations

from collections.abc import Sequence

from videopoet.data.toybox_captions import AIR_PLACES, AIR_VERBS, GROUND_PLACES, GROUND_VERBS, third_person
from videopoet.data.toybox_lot import Lot
from videopoet.data.toybox_world import COLOURS, KINDS, SHAPES, SIZE_CHANGING_CAMERAS, is_held_out
from videopoet.errors import TaskError
from videopoet.generation.storyboard import LONGEST_TITLE
from videopoet.writers.base import Draft, DraftScene, Writer
from videopoet.writers.toybox_words import Named, Understood, understand

HOMES = {"fish": ("sea",), "rocket": ("night", "snow", "street"), "raccoon": ("forest", "grass")}
"""Where a subject begins if nothing says so; others begin anywhere on land."""
ON_LAND = ("forest", "grass", "street", "room")
OPENINGS, ENDINGS = ("zoom in", "pan right", "crane shot"), ("zoom out", "tilt up")
ALWAYS_GROUND, ALWAYS_AIR = ("bounce", "fall", "still"), ("up", "down", "orbit")
_SMALL = frozenset("a an the and or of to in on at by from with through over under into across for".split())


class Toybox(Writer):
    """Writes with the words of the world that ships."""

    @property
    def name(self) -> str:
        return "built-in"

    def write(self, idea: str, num_scenes: int, seed: int) -> Draft:
        found = understand(idea)
        if found.is_empty:
            raise TaskError(
                f"the built-in writer knows no word of the idea '{idea[:60]}'; it knows English words for subjects "
                f"({', '.join(SHAPES)}), places ({', '.join(KINDS)}) and motions; use some, or another writer",
                code="idea_unknown",
            )
        lot = Lot("story", seed, *idea.lower().split())
        warnings = []
        if found.unknown:
            words = ", ".join(f"'{word}'" for word in dict.fromkeys(found.unknown[:8]))
            warnings.append(f"the built-in writer does not know {words}; the scenes are without that")
        if not found.subjects:
            found.subjects.append(Named(lot.choose(("raccoon", "ball", "star"))))
            warnings.append(f"the idea names no subject that the toy box has; a {found.subjects[0].shape} plays it")
        self.warnings = tuple(warnings)
        motions = _motions(found, num_scenes, lot)
        subjects = _in_words(found.subjects, motions)
        cast = _cast(subjects, num_scenes)
        places = _places(found, num_scenes, lot)
        cameras = _cameras(found, motions, lot)
        # One motion is one verb throughout, and one place one phrase.
        verbs: dict[tuple[str, bool], str] = {}
        phrases: dict[tuple[str, bool], str] = {}
        scenes = []
        for seen, motion, kind, camera in zip(cast, motions, places, cameras, strict=True):
            ground = _on_ground(motion, found, seen)
            verb = verbs.setdefault((motion, ground), lot.choose((GROUND_VERBS if ground else AIR_VERBS)[motion]))
            places_there = (GROUND_PLACES if ground else AIR_PLACES)[kind]
            place = phrases.setdefault((kind, ground), lot.choose(places_there))
            said = third_person(verb) if len(seen) == 1 else verb
            scenes.append(DraftScene(prompt=f"{_join(seen)} {said} {place}", camera=camera))
        return Draft(title=_title(idea), scenes=scenes)


def _motions(found: Understood, num_scenes: int, lot: Lot) -> list[str]:
    """What happens in each scene: every motion that is named, on the way if there is one."""
    sideways = "left" if found.leftwards else "right"
    named = [sideways if motion == "travel" else motion for motion in found.motions]
    travels = "travel" in found.motions or any(role != "way" for _, role in found.places) or len(found.places) > 1
    others = [motion for motion in dict.fromkeys(named) if motion != sideways]
    if num_scenes == 1:
        return [(others or named or [sideways])[0]]
    flies = _flies(found)
    if not travels:
        idle = "orbit" if flies else lot.choose(("still", "bounce"))
        if len(others) > 1:  # one after the other, as the idea tells them
            return [others[number * len(others) // num_scenes] for number in range(num_scenes)]
        # A walk now and then keeps the scenes apart.
        return [sideways if number % 3 == 2 else (others or [idle])[0] for number in range(num_scenes)]
    motions = [sideways] * num_scenes
    if num_scenes > 2:
        motions[0] = "up" if flies else "still"
    motions[-1] = "orbit" if flies else "bounce"
    if others:
        motions[-1] = others[-1]
        middle = list(range(1, num_scenes - 1))
        for motion, number in zip(others[:-1], middle[1::2] + middle[0::2], strict=False):
            motions[number] = motion
    return motions


def _places(found: Understood, num_scenes: int, lot: Lot) -> list[str]:
    """The scenery of each scene, from where the way begins to where it ends."""
    roles = ("start", "way", "end")
    route = [kind for role in roles for kind, own in found.places if own == role]
    has_start = any(role != "end" for _, role in found.places)
    shape = found.subjects[0].shape
    if not has_start:
        homes = [kind for kind in HOMES.get(shape, ON_LAND) if kind not in route] or [
            kind for kind in ON_LAND if kind not in route
        ]
        route.insert(0, lot.choose(homes))
    leads = any(role == "end" for _, role in found.places)
    if leads and len(route) == 2 and num_scenes > 3:
        between = [kind for kind in ("grass", "sand", "street", "forest", "snow") if kind not in route]
        route.insert(1, lot.choose(between))
    if num_scenes == 1:
        return route[-1:]
    return [route[round(number * (len(route) - 1) / (num_scenes - 1))] for number in range(num_scenes)]


def _cameras(found: Understood, motions: Sequence[str], lot: Lot) -> list[str | None]:
    """Moves of the camera: those that are named, or one to open with and one to end with."""
    cameras: list[str | None] = [None] * len(motions)
    if found.cameras:
        cameras[: len(found.cameras)] = found.cameras[: len(motions)]
    elif len(motions) > 1:
        cameras[0], cameras[-1] = lot.choose(OPENINGS), lot.choose(ENDINGS)
    return [
        None if camera in SIZE_CHANGING_CAMERAS and motion in ("grow", "shrink") and not found.cameras else camera
        for camera, motion in zip(cameras, motions, strict=True)
    ]


def _cast(subjects: Sequence[str], num_scenes: int) -> list[list[str]]:
    """Who is seen in each scene: several meet after each has been seen alone, if there are scenes for it."""
    together = list(subjects)
    alone = [[one] for one in subjects] if 1 < len(subjects) < num_scenes else []
    return alone + [together] * (num_scenes - len(alone))


def _in_words(subjects: Sequence[Named], motions: Sequence[str]) -> list[str]:
    """Subjects in words; an unnamed colour is one in which the model has seen most of what happens, each its own."""
    taken = {one.colour for one in subjects}
    said = []
    for named in subjects:
        free = [colour for colour in COLOURS if colour not in taken] or list(COLOURS)
        colour = named.colour or min(free, key=lambda one: sum(is_held_out(named.shape, one, each) for each in motions))
        taken.add(colour)
        words = [named.size] if named.size not in (None, "medium") else []
        words += [colour, named.shape]
        said.append(f"{'an' if str(words[0])[0] in 'aeiou' else 'a'} {' '.join(map(str, words))}")
    return said


def _flies(found: Understood) -> bool:
    return found.in_the_air or found.subjects[0].shape == "rocket"


def _on_ground(motion: str, found: Understood, seen: Sequence[str]) -> bool:
    if motion in ALWAYS_GROUND or motion in ALWAYS_AIR:
        return motion in ALWAYS_GROUND
    return not (found.in_the_air or all(one.endswith("rocket") for one in seen))


def _join(subjects: Sequence[str]) -> str:
    if len(subjects) == 1:
        return subjects[0]
    return f"{', '.join(subjects[:-1])} and {subjects[-1]}"


def _title(idea: str) -> str:
    """The idea as a title: its first sentence, in capitals where titles have them."""
    title = ""
    for number, word in enumerate(idea.replace("\n", " ").split(". ")[0].rstrip(" .!").split()):
        said = word if number and word.lower() in _SMALL else word[:1].upper() + word[1:]
        if len(title) + 1 + len(said) > LONGEST_TITLE - 3:
            return f"{title}..."
        title = f"{title} {said}".strip()
    return title
