"""What every decoder says of tokens that are final, while others are still to be chosen."""

import pytest
import torch

from videopoet.generation.sampling import Sampling
from videopoet.registry import component, names
from videopoet.runtime import generator
from videopoet.sequence.tasks import TASKS


@pytest.fixture(params=names("generation.decoders"))
def decoder(request):
    return component("generation.decoders", request.param)()


def decoded(poet, decoder, rows, against, sampling, on_settled):
    parts, streams = poet.parts, [generator(0, index) for index in range(len(rows))]
    return decoder.decode(
        parts.language_model, parts.vocabulary, rows, against, sampling, streams, on_settled=on_settled
    )


@pytest.mark.parametrize(
    "task", ["text_to_video", "video_continuation", "audio_video_continuation", "video_captioning"]
)
def test_tokens_that_are_said_to_be_final_are_those_of_the_result(poet, planned, decoder, task):
    rows = [planned(poet, TASKS[task], number, num_words=2 + number) for number in range(3)]
    told = []
    sampling = Sampling(temperature=1.0)
    made = decoded(poet, decoder, rows, [], sampling, lambda tokens, counts: told.append((tokens.clone(), [*counts])))
    for number, (row, whole) in enumerate(zip(rows, made, strict=True)):
        unknown = row.to_generate.nonzero().flatten()
        counts = [counts[number] for _, counts in told]
        assert counts == sorted(counts) and len(set(counts)) > 1
        assert task == "video_captioning" or counts[-1] == len(unknown)  # a text may end early
        for tokens, count in zip((tokens[number] for tokens, _ in told), counts, strict=True):
            settled = unknown[:count]
            assert torch.equal(tokens[-len(row.tokens) :][settled], whole.tokens[settled])


def test_listening_changes_nothing_with_guidance(poet, planned, decoder):
    rows = [planned(poet, TASKS["text_to_video"], number) for number in range(2)]
    against = [planned(poet, TASKS["text_to_video"], number, num_words=0) for number in range(2)]
    sampling = Sampling(temperature=1.0, guidance_scale=2.0)
    heard = decoded(poet, decoder, rows, against, sampling, lambda tokens, counts: None)
    alone = decoded(poet, decoder, rows, against, sampling, None)
    assert all(torch.equal(one.tokens, other.tokens) for one, other in zip(heard, alone, strict=True))


def test_what_a_listener_raises_ends_the_decoding(poet, planned, decoder):
    def stop(tokens, counts):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decoded(poet, decoder, [planned(poet, TASKS["text_to_video"])], [], Sampling(), stop)
