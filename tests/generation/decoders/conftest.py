import pytest
import torch

from videopoet.runtime import generator
from videopoet.sequence.layout import plan

GRID, AUDIO, TEXT = (5, 2, 2), (2, 17), 12


@pytest.fixture(scope="session")
def planned():
    """`planned(poet, task, seed=0, num_words=3)`: a row with random pieces, whose output is to be generated."""
    return _planned


def _planned(poet, task, seed=0, num_words=3):
    stream = generator("row", seed)
    vocabulary = poet.parts.vocabulary
    whole = {
        "text": torch.randint(vocabulary.config.text_size, (num_words,), generator=stream),
        "video": torch.randint(64, GRID, generator=stream),
        "audio": torch.randint(16, AUDIO, generator=stream),
    }
    shapes = {"text_out": (TEXT,), "audio_out": AUDIO, "video_out": GRID}
    pieces = {view.piece: view.of(whole[view.modality]) for view in task.given if view.modality != "text" or num_words}
    outputs = {f"{view.modality}_out" for view in task.predict}
    shapes = {name: shape for name, shape in shapes.items() if name in outputs}
    if task.open_ended:
        shapes = {"video_out": (1, *GRID[1:])}
    return plan(task, vocabulary, pieces, shapes)
