import pytest
import torch

from videopoet.generation.masked_decoding import MaskedSampling, decode, masked_share
from videopoet.models.super_resolution import UNKNOWN, Config, SuperResolution


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = Config(
        num_bits=6, text_size=10, width=32, head_width=16, hidden_width=48, num_blocks=1, windows=((1, None, None),)
    )
    model = SuperResolution(config)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


class Counted:
    """The model, how many of the codes that it was shown were unknown, and how often it was told what is known."""

    def __init__(self, model):
        self.config, self.logits, self.codes, self.inner = model.config, model.logits, model.codes, model
        self.unknown, self.num_conditions = [], 0

    def condition(self, *known):
        self.num_conditions += 1
        return self.inner.condition(*known)

    def refine(self, codes, condition):
        self.unknown.append((len(codes), int((codes[0] == UNKNOWN).sum())))
        return self.inner.refine(codes, condition)


def given(rows=1):
    stream = torch.Generator().manual_seed(0)
    low_codes = torch.randint(64, (rows, 2, 2, 4), generator=stream)
    return torch.full((rows, 2, 4, 8), UNKNOWN), low_codes, torch.randint(10, (rows, 3), generator=stream)


def streams(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.mark.parametrize("num_steps", [1, 2, 5, 64, 100])
def test_every_code_is_chosen_in_so_many_steps_each_choosing_some(model, num_steps):
    counted, steps = Counted(model), []
    codes = decode(counted, *given(), MaskedSampling(num_steps=num_steps), streams(0), lambda: steps.append(1))
    assert (codes >= 0).all() and (codes < 64).all()
    assert counted.num_conditions == 1
    left = [unknown for _, unknown in counted.unknown]
    assert len(left) == len(steps) == min(num_steps, 64)
    assert left[0] == 64 and all(later < earlier for earlier, later in zip(left, left[1:], strict=False))


def test_known_codes_stay(model):
    codes, *rest = given()
    codes[:, 0] = 7
    made = decode(model, codes, *rest, MaskedSampling(num_steps=3), streams(0))
    assert (made[:, 0] == 7).all() and (made != UNKNOWN).all()


def test_a_complete_grid_needs_no_step(model):
    codes, *rest = given()
    assert torch.equal(decode(model, codes.clamp_min(3), *rest, MaskedSampling(), streams(0)), codes.clamp_min(3))


def test_a_row_depends_on_its_own_stream_alone(model):
    codes, low_codes, text = given(rows=2)
    sampling = MaskedSampling(num_steps=4)
    both = decode(model, codes, low_codes, text, sampling, streams(3, 4))
    alone = decode(model, codes[1:], low_codes[1:], text[1:], sampling, streams(4))
    assert torch.equal(both[1:], alone)
    assert not torch.equal(decode(model, codes[1:], low_codes[1:], text[1:], sampling, streams(5)), alone)


def test_without_luck_decoding_is_repeatable_whatever_the_seed(model):
    sampling = MaskedSampling(num_steps=4, temperature=0, choice_temperature=0)
    assert torch.equal(decode(model, *given(), sampling, streams(0)), decode(model, *given(), sampling, streams(1)))


@pytest.mark.parametrize(
    ("scales", "rows"), [((1, 1), 1), ((4, 1), 2), ((2, 2), 2), ((4, 2), 3), ((0, 0), 1), ((0, 1), 1)]
)
def test_guidance_costs_only_the_rows_it_needs(model, scales, rows):
    counted = Counted(model)
    sampling = MaskedSampling(num_steps=1, text_guidance=scales[0], low_resolution_guidance=scales[1])
    decode(counted, *given(), sampling, streams(0))
    assert counted.unknown[0][0] == rows


def test_scales_of_zero_leave_their_condition_out(model):
    codes, low_codes, text = given()
    likeliest = {"num_steps": 2, "temperature": 0, "choice_temperature": 0}

    def made(low, words, **scales):
        return decode(model, codes, low, words, MaskedSampling(**likeliest, **scales), streams(0))

    no_text, no_low = torch.full_like(text, UNKNOWN), torch.full_like(low_codes, UNKNOWN)
    assert torch.equal(made(low_codes, text, text_guidance=0), made(low_codes, no_text))
    assert torch.equal(made(low_codes, text, text_guidance=0, low_resolution_guidance=0), made(no_low, no_text))
    assert not torch.equal(made(low_codes, text, text_guidance=8), made(low_codes, text))
    assert not torch.equal(made(low_codes, text, low_resolution_guidance=8), made(low_codes, text))


def test_the_masked_share_falls_from_all_to_nothing_and_faster_towards_the_end():
    shares = masked_share(torch.linspace(0, 1, 5))
    assert shares[0] == 1 and shares[-1].abs() < 1e-6
    assert (shares.diff().diff() < 0).all()
