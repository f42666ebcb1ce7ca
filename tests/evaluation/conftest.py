import importlib.util
from dataclasses import replace

import pytest
import torch

from videopoet.data.toybox import ToyBox
from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.reading import ClipReading, SubjectReading
from videopoet.evaluation.suites import cases, world_of
from videopoet.generation.window import Window


@pytest.fixture(scope="session")
def make_poet(root):
    """Poets of random weights, as the tests of generation have them, of the size that the oracle reads."""
    spec = importlib.util.spec_from_file_location("generation_conftest", root / "tests" / "generation" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda **settings: module.make_poet(**({"height": 32, "width": 32} | settings))


@pytest.fixture(scope="session")
def poet(make_poet):
    return make_poet()


@pytest.fixture(scope="session")
def window(poet) -> Window:
    return Window(poet.parts)


@pytest.fixture(scope="session")
def world(window) -> ToyBox:
    return world_of(window, "in")


@pytest.fixture(scope="session")
def cases_of(world, window):
    """Cases of a suite: `cases_of("inpainting", 3)`."""
    made: dict[tuple, list[Case]] = {}

    def of(suite: str, count: int = 2, seed: int = 0) -> list[Case]:
        key = suite, count, seed
        if key not in made:
            made[key] = list(cases(suite, world, window, range(count), seed))
        return made[key]

    return of


@pytest.fixture(scope="session")
def read_as_true():
    """What a perfect oracle would read of a case's truth, or of it with changes to the first subject."""

    def read(case: Case, **changes) -> Take:
        truth = case.truth
        subjects = []
        for number, subject in enumerate(truth.scene.subjects):
            track = truth.tracks[number]
            num_frames = len(track)
            one = SubjectReading(
                shape=subject.shape,
                colour=subject.colour,
                motion=subject.motion,
                size=subject.size,
                track=track,
                path=track,
                radii=torch.full((num_frames,), 5.0),
                masks=truth.masks[number],
                frame_colours=(subject.colour,) * num_frames,
                frame_shapes=(subject.shape,) * num_frames,
                impacts=tuple(impact.seconds for impact in truth.scene.impacts if impact.subject == number),
            )
            subjects.append(replace(one, **changes) if not number else one)
        video = truth.plain
        reading = ClipReading(
            valid=True,
            reason=None,
            subjects=tuple(subjects),
            scenery=truth.scene.kind,
            camera=truth.scene.camera,
            impacts=(),
            frame_rate=video.frame_rate,
            height=video.height,
            width=video.width,
            num_frames=video.num_frames,
        )
        return Take(video=video, known=reading)

    return read
