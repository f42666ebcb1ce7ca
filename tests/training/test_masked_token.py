import torch

from videopoet import runtime
from videopoet.data.upscaling import Pairs
from videopoet.generation.masked_decoding import MaskedSampling, decode
from videopoet.models import super_resolution
from videopoet.models.super_resolution import UNKNOWN, SuperResolution
from videopoet.training import loop, masked_token, optimizer
from videopoet.training.masked_token import MaskedToken, random_mask, with_noise


def make_model() -> SuperResolution:
    torch.manual_seed(0)
    return SuperResolution(
        super_resolution.Config(
            num_bits=6,
            text_size=10,
            width=48,
            head_width=16,
            hidden_width=96,
            num_blocks=1,
            windows=((1, None, 4), (1, 4, None), (2, 4, 4)),
        )
    )


def make_pairs(rows=1) -> Pairs:
    stream = runtime.generator("pairs")
    return Pairs(
        codes=torch.randint(64, (rows, 2, 4, 8), generator=stream),
        low_codes=torch.randint(64, (rows, 2, 2, 4), generator=stream),
        text=torch.randint(10, (rows, 3), generator=stream),
    )


def training(num_steps):
    settings = optimizer.Config(name="muon", learning_rate=1e-2, warmup_steps=5)
    return loop.Config(
        num_steps=num_steps,
        optimizer=settings,
        ema_decay=0.0,
        bf16=False,
        validate_every=num_steps,
        checkpoint_every=num_steps,
    )


def test_a_clip_learned_by_heart_is_decoded_code_for_code(tmp_path):
    model, pairs = make_model(), make_pairs(rows=2)
    objective = MaskedToken(model, masked_token.Config(most_noise=0.1), [pairs])
    loop.train(objective, lambda index: pairs, training(110), tmp_path)
    sampling = MaskedSampling(num_steps=8, temperature=0, choice_temperature=0)
    unknown = torch.full_like(pairs.codes, UNKNOWN)
    streams = [runtime.generator(0), runtime.generator(1)]
    made = decode(model, unknown, pairs.low_codes, pairs.text, sampling, streams)
    assert (made == pairs.codes).float().mean() > 0.98
    # Which of the two clips it was can only be known from what is given.
    other = decode(model, unknown, pairs.low_codes.flip(0), pairs.text.flip(0), sampling, streams)
    assert (other == pairs.codes.flip(0)).float().mean() > 0.98


def test_a_mask_hides_any_share_and_never_nothing():
    mask = random_mask((2000, 2, 3, 4), runtime.generator(0))
    counts = mask.flatten(1).sum(dim=1)
    assert counts.min() == 1 and counts.max() == 24
    assert abs(counts.float().mean() / 24 - 2 / torch.pi) < 0.03  # the mean of a quarter of a cosine, rounded up


def test_only_hidden_codes_count():
    model, pairs = make_model(), make_pairs()
    objective = MaskedToken(model, masked_token.Config())
    mask = random_mask(pairs.codes.shape, runtime.generator(5))
    clean = torch.zeros(1)
    torch.nn.init.normal_(model.heads.weight)

    def loss(codes):
        hidden = model(pairs.codes.masked_fill(mask, UNKNOWN), pairs.low_codes, pairs.text, clean)
        logs = model.logits(hidden).log_softmax(-1).gather(-1, model.groups(codes)[..., None]).sum(dim=(-1, -2))
        return -logs[mask].mean()

    expected = objective.loss(pairs.codes, pairs.low_codes, pairs.text, clean, runtime.generator(5))
    torch.testing.assert_close(expected, loss(pairs.codes))


def test_noise_replaces_about_its_share():
    codes = torch.zeros(3, 5, 20, 20, dtype=torch.int64)
    noisy = with_noise(codes, torch.tensor([0.0, 0.3, 1.0]), 4096, runtime.generator(0))
    shares = (noisy != codes).flatten(1).float().mean(dim=1)
    assert shares[0] == 0 and abs(shares[1] - 0.3) < 0.03 and shares[2] > 0.99
    assert noisy.min() >= 0 and noisy.max() < 4096


def test_what_is_left_out_in_training_reaches_the_model_as_unknown():
    model, pairs, seen = make_model(), make_pairs(rows=64), []
    objective = MaskedToken(model, masked_token.Config(text_drop=0.3, low_resolution_drop=0.2, most_noise=0.0))
    model.register_forward_pre_hook(lambda module, given: seen.append(given))
    objective(pairs, 0, runtime.generator(0))
    _, low_codes, text, noise = seen[0]
    without_low = (low_codes == UNKNOWN).flatten(1)
    assert (without_low.all(dim=1) == without_low.any(dim=1)).all()
    assert 0.05 < without_low[:, 0].float().mean() < 0.4
    assert 0.1 < (text == UNKNOWN).all(dim=1).float().mean() < 0.5
    assert not noise.any()
