import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from videopoet.errors import ConfigError, DataError, TaskError
from videopoet.runtime import generator
from videopoet.sequence.layout import UNKNOWN, attention_mask, batch_rows, build, plan, read_back
from videopoet.sequence.tasks import TASKS
from videopoet.sequence.vocabulary import MODALITIES, Config, Vocabulary

VOCABULARY = Vocabulary(
    Config(
        text_size=50,
        visual_codes=64,
        audio_codebook_size=16,
        audio_quantizers=3,
        sources=("toybox",),
        resolutions=((64, 64),),
        lengths=(1, 17),
    )
)
PAD = VOCABULARY.special("<pad>")
NAMES = {id: name for name, id in VOCABULARY.special_tokens.items()}


def random_pieces(task, seed=0, video=(5, 2, 3), audio=(3, 7), num_words=4):
    """Everything the task gives and predicts, at random."""
    stream = generator("pieces", seed)
    whole = {
        "text": torch.randint(50, (num_words,), generator=stream),
        "video": torch.randint(64, video, generator=stream),
        "audio": torch.randint(16, audio, generator=stream),
    }
    given = {view.piece: view.of(whole[view.modality]) for view in task.given}
    return given | {f"{view.modality}_out": view.of(whole[view.modality]) for view in task.predict}


def marks(row):
    """The row with its special tokens by name and a dot for each run of others."""
    names = [NAMES.get(token, ".") for token in row.tokens.tolist()]
    return " ".join(name for name, before in zip(names, [None, *names], strict=False) if name != "." or before != ".")


every_task = pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
sizes = st.integers(1, 4)


@every_task
@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 999), t=st.integers(2, 5), h=sizes, w=sizes, levels=st.integers(1, 3), words=st.integers(0, 5)
)
def test_every_task_builds_a_row_and_reads_it_back(task, seed, t, h, w, levels, words):
    pieces = random_pieces(task, seed, (t, h, w), (levels, 6), words)
    row = build(task, VOCABULARY, pieces, source="toybox", resolution=(64, 64), length=17)
    read = read_back(row, VOCABULARY)
    assert read.keys() == pieces.keys()
    assert all(torch.equal(read[name], pieces[name]) for name in pieces)


@every_task
def test_a_plan_filled_in_is_the_training_row(task):
    pieces = random_pieces(task)
    training = build(task, VOCABULARY, pieces, length=17)
    given = {name: codes for name, codes in pieces.items() if not name.endswith("_out")}
    shapes = {name: tuple(codes.shape) for name, codes in pieces.items() if name.endswith("_out")}
    planned = plan(task, VOCABULARY, given, shapes, length=17)

    is_end_of_text = training.tokens == VOCABULARY.special("<eot_o>")
    assert torch.equal(planned.to_generate, training.targets & ~is_end_of_text)
    assert not planned.to_generate[: planned.prefix_length].any()
    filled = planned.filled(torch.where(planned.to_generate, training.tokens, planned.tokens))
    for column in ("tokens", "modality", "places", "ranges", "targets"):
        assert torch.equal(getattr(filled, column), getattr(training, column))
    assert (filled.prefix_length, filled.spans) == (training.prefix_length, training.spans)


@every_task
def test_every_token_lies_in_its_range_and_only_choices_have_more_than_one(task):
    row = build(task, VOCABULARY, random_pieces(task))
    start, stop = row.ranges.unbind(1)
    assert ((start <= row.tokens) & (row.tokens < stop)).all()
    assert torch.equal(stop - start > 1, row.targets)
    assert not row.targets[: row.prefix_length + 1].any()


@every_task
def test_without_text_its_markers_are_gone(task):
    pieces = random_pieces(task)
    without = {name: codes for name, codes in pieces.items() if name != "text_in"}
    row, null_row = build(task, VOCABULARY, pieces), build(task, VOCABULARY, without)
    dropped = len(pieces["text_in"]) + 2 if "text_in" in pieces else 0
    assert len(row.tokens) - len(null_row.tokens) == row.prefix_length - null_row.prefix_length == dropped
    assert "<bot_i>" not in marks(null_row)
    assert torch.equal(row.tokens[row.prefix_length :], null_row.tokens[null_row.prefix_length :])


@pytest.mark.parametrize(
    ("name", "expected"),
    {
        "text_to_video": "<bos> <task:video> <bot_i> . <eot_i> <len:17> <bov_o> . <eov_o> <eos>",
        "text_to_image": "<bos> <task:video> <bot_i> . <eot_i> <len:17> <bov_o> .",
        "unconditional": "<bos> <task:video> <len:17> <bov_o> . <eov_o> <eos>",
        "image_to_video": "<bos> <task:video> <bot_i> . <eot_i> <len:17> <bov_o> . <eov_o> <eos>",
        "outpainting": "<bos> <task:outpainting> <bot_i> . <eot_i> <bov_i> . <eov_i> <len:17> <bov_o> . <eov_o> <eos>",
        "video_to_audio": "<bos> <task:audio> <bov_i> . <eov_i> <len:17> <boa_o> . <eoa_o> <eos>",
        "audio_video_continuation": "<bos> <task:video_audio> <bov_i> . <eov_i> <boa_i> . <eoa_i> <len:17> "
        "<bov_o> . <eov_o> <boa_o> . <eoa_o> <eos>",
        "video_captioning": "<bos> <task:text> <bov_i> . <eov_i> <len:17> <bot_o> . <eot_o> <eos>",
    }.items(),
)
def test_rows_have_the_papers_order(name, expected):
    assert marks(build(TASKS[name], VOCABULARY, random_pieces(TASKS[name]), length=17)) == expected


def test_an_image_row_goes_on_into_a_video_row():
    words = torch.tensor([3, 1, 4])
    image, clip = torch.randint(64, (1, 2, 3)), torch.randint(64, (5, 2, 3))
    image_row = build(TASKS["text_to_image"], VOCABULARY, {"text_in": words, "video_out": image})
    pieces = {"text_in": words, "video_start": image, "video_out": clip}
    video_row = build(TASKS["image_to_video"], VOCABULARY, pieces)
    assert torch.equal(video_row.tokens[: len(image_row.tokens)], image_row.tokens)


def test_a_known_start_is_given_and_the_rest_is_to_generate():
    pieces = {"video_start": torch.randint(64, (3, 2, 3))}
    row = plan(TASKS["video_continuation"], VOCABULARY, pieces, {"video_out": (5, 2, 3)})
    output = slice(row.prefix_length + 1, row.prefix_length + 1 + 30)
    assert row.given_output == 18
    assert row.to_generate[output].tolist() == [False] * 18 + [True] * 12
    assert torch.equal(row.tokens[output][:18], VOCABULARY.tokens("video", pieces["video_start"]).flatten())


def test_a_position_knows_its_place_and_its_range():
    task = TASKS["audio_video_continuation"]
    row = plan(task, VOCABULARY, random_given(task), {"video_out": (2, 2, 3), "audio_out": (3, 4)})
    video, audio = row.spans["video_out"], row.spans["audio_out"]
    assert row.places[video.start : video.stop].tolist() == [
        [time, line, column] for time in range(2) for line in range(2) for column in range(3)
    ]
    assert row.places[audio.start : audio.stop].tolist() == [
        [level, frame, -1] for level in range(3) for frame in range(4)
    ]
    assert row.places[row.modality == MODALITIES.index("special")].unique().tolist() == [-1]
    assert row.ranges[video.start].tolist() == list(VOCABULARY.range("video"))
    for level in range(3):
        assert row.ranges[audio.start + 4 * level].tolist() == list(VOCABULARY.range("audio", level))


def random_given(task):
    return {name: codes for name, codes in random_pieces(task).items() if not name.endswith("_out")}


def test_a_caption_may_end_early():
    task = TASKS["video_captioning"]
    row = plan(task, VOCABULARY, random_given(task), {"text_out": (6,)})
    start, end = row.spans["text_out"].start, VOCABULARY.special("<eot_o>")
    assert row.ranges[start].tolist() == [0, end + 1]
    tokens = row.tokens.clone()
    tokens[start : start + 6] = torch.tensor([7, 8, end, end, end, end])
    assert read_back(row.filled(tokens), VOCABULARY)["text_out"].tolist() == [7, 8]


def test_reading_back_an_unfinished_row_is_refused():
    with pytest.raises(DataError):
        read_back(plan(TASKS["unconditional"], VOCABULARY, {}, {"video_out": (2, 2, 2)}), VOCABULARY)


lengths = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 5), st.integers(0, 5)), min_size=1, max_size=3)


@settings(deadline=None)
@given(lengths, st.booleans())
def test_the_mask_is_bidirectional_over_the_prefix_and_causal_over_the_output(rows, causal_prefix):
    length = max(sum(row) for row in rows)
    prefixes = torch.tensor([prefix for _, prefix, _ in rows])
    paddings = torch.tensor([length - prefix - output for _, prefix, output in rows])
    mask = attention_mask(length, prefixes, paddings, causal_prefix)
    assert mask.shape == (len(rows), 1, length, length)
    for seen, padding, prefix in zip(mask[:, 0], paddings.tolist(), prefixes.tolist(), strict=True):
        end = padding + prefix
        for query in range(length):
            if query < padding:
                expected = {query}
            elif query < end and not causal_prefix:
                expected = set(range(padding, end))
            else:
                expected = set(range(padding, query + 1))
            assert set(seen[query].nonzero().flatten().tolist()) == expected


def test_a_batch_aligns_outputs_and_counts_its_padding():
    task = TASKS["text_to_video"]
    pieces = random_pieces(task)
    row = build(task, VOCABULARY, pieces)
    null_row = build(task, VOCABULARY, {"video_out": pieces["video_out"]})
    batch = batch_rows([row, null_row], PAD)
    outputs = len(row.tokens) - row.prefix_length
    assert torch.equal(batch.tokens[0, -outputs:], batch.tokens[1, -outputs:])
    assert batch.num_padding == 6 and batch.padding.tolist() == [0, 6]
    assert (batch.tokens[1, :6] == PAD).all() and not batch.targets[1, :6].any()
    assert (batch.places[1, :6] == -1).all() and (batch.ranges[1, :6] == torch.tensor([PAD, PAD + 1])).all()
    assert batch.positions[1].tolist() == [0] * 6 + list(range(len(null_row.tokens)))
    assert batch.attention_mask().shape == (2, 1, len(row.tokens), len(row.tokens))
    assert torch.equal(batch.to("cpu").tokens, batch.tokens)


@pytest.mark.parametrize("name", ["text_to_video", "inpainting", "video_to_audio"])
def test_neighbours_are_at_the_places_before_and_above(name):
    rows = [build(TASKS[name], VOCABULARY, random_pieces(TASKS[name], seed, num_words=seed)) for seed in (1, 4)]
    batch = batch_rows(rows, PAD)
    outputs = batch.targets[0].nonzero().flatten().tolist()
    found = {False: set(), True: set()}
    for position in outputs:
        time, row, column = batch.places[0, position].tolist()
        for is_above, neighbour in enumerate(batch.neighbours[position]):
            assert neighbour == -1 or (neighbour in outputs and neighbour < position)
            if neighbour != -1:
                expected = [time, row - 1, column] if is_above else [time - 1, row, column]
                assert batch.places[:, neighbour].tolist() == [expected, expected]
                found[bool(is_above)].add(position)
    if name == "video_to_audio":  # 3 levels of 7 frames
        assert (len(found[False]), len(found[True])) == (14, 0)
    else:  # 5 latent frames of 2 x 3
        assert (len(found[False]), len(found[True])) == (24, 15)


def test_a_batch_of_one_shape_has_no_padding():
    task = TASKS["text_to_video"]
    assert batch_rows([build(task, VOCABULARY, random_pieces(task, seed)) for seed in range(3)], PAD).num_padding == 0


@pytest.mark.parametrize(
    ("name", "change", "code"),
    [
        ("image_to_video", {"video_start": None}, "input_missing"),
        ("text_to_video", {"video_out": None}, "input_missing"),
        ("text_to_video", {"audio_in": torch.zeros(3, 2, dtype=torch.int64)}, "input_unexpected"),
        ("image_to_video", {"video_start": torch.zeros(5, 2, 3, dtype=torch.int64)}, "start_too_long"),
        ("image_to_video", {"video_start": torch.zeros(1, 3, 3, dtype=torch.int64)}, "start_shape"),
    ],
)
def test_pieces_that_do_not_fit_the_task_are_refused(name, change, code):
    pieces = random_pieces(TASKS[name]) | change
    with pytest.raises(TaskError) as raised:
        build(TASKS[name], VOCABULARY, {name: codes for name, codes in pieces.items() if codes is not None})
    assert raised.value.code == code


def test_a_resolution_without_a_token_is_refused():
    task = TASKS["text_to_video"]
    with pytest.raises(ConfigError, match="<res:64x64>"):
        build(task, VOCABULARY, random_pieces(task), resolution=(48, 64))


def test_an_unknown_token_is_no_id():
    row = plan(TASKS["unconditional"], VOCABULARY, {}, {"video_out": (1, 2, 2)})
    assert UNKNOWN < 0 and (row.tokens == UNKNOWN).sum() == 4


def test_prompts_of_an_encoder_have_ids_of_their_own_and_captions_stay_text():
    vocabulary = Vocabulary(VOCABULARY.config.model_copy(update={"prompt_ids": 40}))
    assert vocabulary.size == VOCABULARY.size
    assert vocabulary.range("prompt") == (vocabulary.size, vocabulary.size + 40)
    pieces = random_pieces(TASKS["text_to_video"]) | {"text_in": torch.tensor([39, 0, 7])}
    row = build(TASKS["text_to_video"], vocabulary, pieces)
    at = row.modality == MODALITIES.index("prompt")
    assert row.tokens[at].tolist() == [vocabulary.size + 39, vocabulary.size, vocabulary.size + 7]
    assert (row.tokens[~at] < vocabulary.size).all() and not row.targets[at].any()
    assert torch.equal(read_back(row, vocabulary)["text_in"], pieces["text_in"])
    caption = build(TASKS["video_captioning"], vocabulary, random_pieces(TASKS["video_captioning"]))
    assert (caption.tokens < vocabulary.size).all()
    with pytest.raises(DataError, match="prompt codes reach from 40"):
        build(TASKS["text_to_video"], vocabulary, pieces | {"text_in": torch.tensor([40])})
