import pytest
import torch

from videopoet.generation.decoders import row_parallel
from videopoet.generation.decoders.autoregressive import Autoregressive
from videopoet.generation.decoders.row_parallel import RowParallel, schedule
from videopoet.generation.sampling import Sampling
from videopoet.models.cached_pass import CachedPass, cached_pass
from videopoet.runtime import generator
from videopoet.sequence.tasks import TASKS

every_task = pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
WARM = Sampling(temperature=0.7, top_p=0.95, guidance_scale=2.0)


def run(decoder, poet, rows, against=(), sampling=WARM, seed=0, **options):
    streams = [generator(seed, index) for index in range(len(rows))]
    parts = poet.parts
    return decoder.decode(parts.language_model, parts.vocabulary, rows, against, sampling, streams, **options)


def video(num_rows, num_columns):
    return [[0, row, column] for row in range(num_rows) for column in range(num_columns)]


@pytest.mark.parametrize("window", [1, 2, 3])
def test_a_row_begins_when_the_one_above_is_a_window_ahead(window):
    steps = schedule([2] * 20, video(4, 5), range(20), window)
    chosen_in = {place: number for number, step in enumerate(steps) for place in step}
    assert sorted(chosen_in) == list(range(20))
    assert all(chosen_in[5 * row] == window * row for row in range(4))
    assert all(chosen_in[place] == chosen_in[place - 1] + 1 for place in range(20) if place % 5)
    assert len(steps) == 3 * window + 5


def test_sound_follows_the_picture_one_by_one():
    steps = schedule([2] * 4 + [3] * 3, [*video(2, 2), [0, 0, -1], [0, 1, -1], [0, 2, -1]], range(7), 1)
    assert steps == [[0], [1, 2], [3], [4], [5], [6]]


@every_task
def test_a_window_as_wide_as_the_picture_is_plain_decoding(poet, planned, task):
    rows = [planned(poet, task, number, num_words=2 + number) for number in range(2)]
    (first, second), expected = run(RowParallel(2), poet, rows), run(Autoregressive(), poet, rows)
    assert torch.equal(first.tokens, expected[0].tokens)
    assert torch.equal(second.tokens, expected[1].tokens)


@every_task
def test_every_position_gets_a_token_that_belongs_there(poet, planned, task):
    row, without = planned(poet, task), planned(poet, task, num_words=0)
    (decoded,) = run(RowParallel(1), poet, [row], [without])
    assert torch.equal(decoded.tokens[~row.to_generate], row.tokens[~row.to_generate])
    start, stop = decoded.ranges.unbind(dim=1)
    assert ((start <= decoded.tokens) & (decoded.tokens < stop)).all()


def test_company_changes_nothing(poet, planned):
    rows = [planned(poet, TASKS["text_to_video"], number, num_words=1 + number) for number in range(3)]
    together = run(RowParallel(1), poet, rows)
    for number, row in enumerate(rows):
        parts = poet.parts
        (alone,) = RowParallel(1).decode(
            parts.language_model, parts.vocabulary, [row], [], WARM, [generator(0, number)]
        )
        assert torch.equal(alone.tokens, together[number].tokens)


def test_rows_side_by_side_save_passes_and_every_position_is_reported_once(poet, planned, monkeypatch):
    row, passes, steps, settled = planned(poet, TASKS["text_to_video"]), [], [], []
    plain = CachedPass.logits
    monkeypatch.setattr(CachedPass, "logits", lambda *given: passes.append(1) or plain(*given))
    (decoded,) = run(
        RowParallel(1),
        poet,
        [row],
        on_step=lambda: steps.append(1),
        on_settled=lambda tokens, counts: settled.append((tokens.clone(), counts[0])),
    )
    unknown = row.to_generate.nonzero().flatten()
    assert len(passes) == 9 * 1 + 2, "ten rows of two codes"
    assert len(steps) == len(unknown) == settled[-1][1]
    for tokens, count in settled:
        assert torch.equal(tokens[0, unknown[:count]], decoded.tokens[unknown[:count]]), "what is settled stays"


def test_nothing_looks_at_a_guess_but_the_guess_itself(poet, planned, monkeypatch):
    row, calls = planned(poet, TASKS["text_to_video"]), []

    def watched(*given):
        read = cached_pass(*given)

        def call(embeddings, mask, positions, places):
            calls.append((places[0].tolist(), mask[0, 0]))
            return read(embeddings, mask, positions, places)

        call.logits, call.head_is_affine = read.logits, True
        return call

    monkeypatch.setattr(row_parallel, "cached_pass", watched)
    run(RowParallel(1), poet, [row])
    unknown = row.to_generate.nonzero().flatten().tolist()
    steps = schedule(row.modality.tolist(), row.places.tolist(), unknown, 1)
    final, guesses = set(range(len(row.tokens))) - set(unknown), 0
    for (fed, mask), chosen in zip(calls, steps, strict=True):
        for place, sees in zip(fed, mask, strict=True):
            assert set(sees.nonzero().flatten().tolist()) <= final | {place}
            guesses += place not in final
        final |= set(chosen)
    assert guesses == 9, "one for each row of codes but the first"


def test_the_result_says_that_it_is_approximate(poet, monkeypatch):
    request = {"task": "text_to_image", "prompt": "a red ball", "seed": 1, "progress": False}
    assert "decoder" not in poet.generate(**request).metadata
    monkeypatch.setattr(poet, "decoder", RowParallel())
    assert poet.generate(**request).metadata["decoder"] == "row_parallel"
