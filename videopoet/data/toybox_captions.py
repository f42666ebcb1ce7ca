"""What the toy box says about its scenes: a small grammar with paraphrases, lower case, the comma its only mark."""

from collections.abc import Sequence

from videopoet.data.toybox_lot import Lot
from videopoet.data.toybox_world import CAMERAS, COLOURS, KINDS, SHAPES, SIZES, Subject

STYLES = ("outline", "negative", "pixelated", "sepia", "hatched")
"""Looks that a finished picture can be given."""

GROUND_PLACES = {
    "grass": ("on the grass", "in the meadow"),
    "sea": ("on the sea", "on the water"),
    "sand": ("on the sand", "in the desert"),
    "night": ("under the night sky", "at night"),
    "snow": ("on the snow", "in the snow"),
    "street": ("on the street", "in the city"),
    "room": ("on the floor", "in the room"),
    "forest": ("in the forest", "in the woods"),
}
AIR_PLACES = {
    "grass": ("over the grass", "above the meadow"),
    "sea": ("over the sea", "above the water"),
    "sand": ("over the sand", "above the desert"),
    "night": ("in the night sky", "at night"),
    "snow": ("over the snow", "above the snow"),
    "street": ("over the street", "in the city"),
    "room": ("over the floor", "in the room"),
    "forest": ("in the forest", "in the woods"),
}
GROUND_VERBS = {
    "left": ("move left", "move to the left", "go to the left", "slide to the left"),
    "right": ("move right", "move to the right", "go to the right", "slide to the right"),
    "still": ("stand still", "stay still", "rest", "do not move"),
    "bounce": ("bounce", "bounce", "bounce up and down", "jump up and down"),
    "fall": ("fall", "fall down", "drop"),
    "grow": ("grow", "get bigger", "become bigger"),
    "shrink": ("shrink", "get smaller", "become smaller"),
}
AIR_VERBS = {
    "left": ("fly left", "fly to the left", "move left", "move to the left"),
    "right": ("fly right", "fly to the right", "move right", "move to the right"),
    "up": ("fly up", "move up", "rise", "go up"),
    "down": ("fly down", "move down", "go down"),
    "orbit": ("circle", "orbit", "move in a circle", "fly in a circle"),
    "grow": ("grow", "get bigger", "become bigger"),
    "shrink": ("shrink", "get smaller", "become smaller"),
}
_THIRD_PERSON = {"go": "goes", "fly": "flies", "do": "does"}
_TEMPLATES = (
    "{subject} {motion} {place}",
    "{subject} {motion} {place}",
    "{place} {subject} {motion}",
    "{place}, {subject} {motion}",
    "there is {subject} {place}, it {motion}",
    "a video of {subject}, it {motion} {place}",
)
_TEMPLATES_FOR_SEVERAL = ("{story} {place}", "{place} {story}", "{place}, {story}")
_GENERAL_WORDS = "a an and at above clip drawing image in is it of on over picture style the there under video with"
_STYLE_WORDS = "hatching line lines palette pixel pixels negative sketch colour colours black white"


def captions(subjects: Sequence[Subject], kind: str, camera: str, lot: Lot, count: int = 4) -> tuple[str, ...]:
    """Paraphrases that each name every subject, its motion, the scene and the camera."""
    return tuple(_full_caption(subjects, kind, lot) + _camera_ending(camera) for _ in range(count))


def loose_caption(subjects: Sequence[Subject], kind: str, camera: str, lot: Lot) -> str:
    """A caption that leaves things out, as people do."""
    subject = subjects[0]
    place = lot.choose(_places(subjects, kind))
    ending = _camera_ending(camera)
    if camera != "still" and lot.uniform() < 0.15:
        return camera
    if len(subjects) == 1:
        if lot.uniform() < 0.4:
            return f"{_name(subject)} {place}{ending}"
        if not subject.on_ground and lot.uniform() < 0.7:
            return f"{_name(subject)} flies {place}{ending}"
        return f"a {subject.shape} {third_person(lot.choose(_verbs(subject)))}{ending}"
    return f"{_join([_name(each) for each in subjects])} {place}{ending}"


def words() -> list[str]:
    """Every word that captions and prompts about the toy box need, sorted; the comma counts as one."""
    phrases = [*SHAPES, *COLOURS, *SIZES, *KINDS, *CAMERAS, *STYLES, *_THIRD_PERSON.values()]
    phrases += [_GENERAL_WORDS, _STYLE_WORDS]
    for table in (GROUND_PLACES, AIR_PLACES):
        phrases += [phrase for choices in table.values() for phrase in choices]
    for table in (GROUND_VERBS, AIR_VERBS):
        for choices in table.values():
            phrases += [form for phrase in choices for form in (phrase, third_person(phrase))]
    return sorted({word for phrase in phrases for word in phrase.split()} | {","})


def split_words(caption: str) -> list[str]:
    """The words of a caption, the comma as a word of its own."""
    return caption.replace(",", " ,").split()


def _full_caption(subjects: Sequence[Subject], kind: str, lot: Lot) -> str:
    place = lot.choose(_places(subjects, kind))
    if len(subjects) == 1:
        subject = subjects[0]
        return lot.choose(_TEMPLATES).format(
            subject=_name(subject), motion=third_person(lot.choose(_verbs(subject))), place=place
        )
    first = subjects[0]
    if all((each.motion, each.on_ground) == (first.motion, first.on_ground) for each in subjects):
        story = f"{_join([_name(each) for each in subjects])} {lot.choose(_verbs(first))}"
    else:
        # With three subjects only the shortest verbs, and no sizes, keep the caption short.
        num_verbs = 4 if len(subjects) == 2 else 1
        names = [_name(each, sized=len(subjects) == 2) for each in subjects]
        verbs = [third_person(lot.choose(_verbs(each)[:num_verbs])) for each in subjects]
        story = _join([f"{name} {verb}" for name, verb in zip(names, verbs, strict=True)])
    return lot.choose(_TEMPLATES_FOR_SEVERAL).format(story=story, place=place)


def _places(subjects: Sequence[Subject], kind: str) -> tuple[str, ...]:
    return (GROUND_PLACES if any(subject.on_ground for subject in subjects) else AIR_PLACES)[kind]


def _verbs(subject: Subject) -> tuple[str, ...]:
    return (GROUND_VERBS if subject.on_ground else AIR_VERBS)[subject.motion]


def _name(subject: Subject, sized: bool = True) -> str:
    size = f"{subject.size} " if sized and subject.size != "medium" else ""
    article = "an" if not size and subject.colour == "orange" else "a"
    return f"{article} {size}{subject.colour} {subject.shape}"


def third_person(phrase: str) -> str:
    """A verb as it is with a singular subject: `go up` becomes `goes up`."""
    verb, _, rest = phrase.partition(" ")
    return f"{_THIRD_PERSON.get(verb, verb + 's')} {rest}".strip()


def _join(phrases: Sequence[str]) -> str:
    return ", ".join(phrases[:-1]) + " and " + phrases[-1]


def _camera_ending(camera: str) -> str:
    return "" if camera == "still" else f", {camera}"
