import pytest
import torch

from videopoet.errors import CheckpointError, ConfigError
from videopoet.models.super_resolution import UNKNOWN, Config, Shape, SuperResolution

GRID = (2, 8, 12)


def make_model(**values) -> SuperResolution:
    """A small transformer of random weights whose every layer has a say."""
    torch.manual_seed(0)
    small = {"num_bits": 6, "text_size": 10, "longest_text": 5, "width": 32, "head_width": 16, "hidden_width": 48}
    shape = {"num_blocks": 1, "num_reading_blocks": 1, "windows": ((1, None, 4), (1, 4, None), (2, 4, 4))}
    model = SuperResolution(Config(**(small | shape | values)))
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def inputs(grid=GRID, rows=1):
    stream = torch.Generator().manual_seed(1)
    codes = torch.randint(64, (rows, *grid), generator=stream)
    low_codes = torch.randint(64, (rows, grid[0], grid[1] // 2, grid[2] // 2), generator=stream)
    return codes, low_codes, torch.randint(10, (rows, 4), generator=stream), torch.zeros(rows)


@pytest.fixture(scope="module")
def model():
    return make_model()


@torch.no_grad()
def test_factors_of_a_code_join_to_the_code(model):
    codes = torch.arange(64).view(4, 16)
    groups = model.groups(codes)
    assert groups.shape == (4, 16, 2) and groups.max() == 7
    assert torch.equal(model.codes(groups), codes)


@pytest.mark.parametrize("grid", [(1, 4, 4), (2, 8, 12), (3, 10, 6), (5, 16, 16), (2, 32, 32)])
@torch.no_grad()
def test_any_grid_of_twice_the_low_one_is_answered(model, grid):
    hidden = model(*inputs(grid))
    assert hidden.shape == (1, *grid, 32) and hidden.isfinite().all()
    assert model.logits(hidden).shape == (1, *grid, 2, 8)


def test_layers_that_are_computed_again_keep_less_and_give_the_same_gradients():
    found, kept = [], []
    for again in (False, True):
        model = make_model()
        if again:
            model.recompute_layers()
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x):
            hidden = model(*inputs())
        hidden.square().mean().backward()
        found.append([p.grad for p in model.parameters() if p.grad is not None])
        kept.append(sum(sizes))
    assert len(found[0]) == len(found[1]) and all(map(torch.equal, *found))
    assert kept[1] < kept[0] / 3


@pytest.mark.parametrize("which", [0, 1, 2, 3])
@torch.no_grad()
def test_every_input_matters_nearly_everywhere(model, which):
    given = list(inputs())
    given[0][0, 0, 0, 0] = UNKNOWN
    before = model(*given)
    edited = given[which].clone()
    if which == 3:
        edited += 0.5
    else:
        edited.view(-1)[-1] = 3 if edited.view(-1)[-1] != 3 else 4
    given[which] = edited
    assert (model(*given) != before).any(dim=-1).float().mean() > 0.9


@torch.no_grad()
def test_a_masked_code_is_not_seen(model):
    codes, *rest = inputs()
    other = codes.clone()
    codes[0, 1, 2, 3], other[0, 1, 2, 3] = UNKNOWN, UNKNOWN
    assert torch.equal(model(codes, *rest), model(other, *rest))
    other[0, 1, 2, 3] = 5
    assert not torch.equal(model(codes, *rest), model(other, *rest))


@torch.no_grad()
def test_a_row_does_not_depend_on_the_others_nor_on_the_padding_of_its_text(model):
    codes, low_codes, text, noise = inputs(rows=2)
    text[0, 2:] = UNKNOWN
    together = model(codes, low_codes, text, noise)
    alone = model(codes[:1], low_codes[:1], text[:1, :2], noise[:1])
    torch.testing.assert_close(together[:1], alone, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_what_is_left_out_gives_finite_answers(model):
    codes, low_codes, text, noise = inputs()
    nothing = model(
        torch.full_like(codes, UNKNOWN), torch.full_like(low_codes, UNKNOWN), torch.full_like(text, UNKNOWN), noise
    )
    assert nothing.isfinite().all()
    torch.testing.assert_close(
        nothing, model(torch.full_like(codes, UNKNOWN), torch.full_like(low_codes, UNKNOWN), text[:, :0], noise)
    )


@torch.no_grad()
def test_windows_alone_carry_news_only_as_far_as_they_reach():
    model = make_model(windows=((1, 4, 4),), num_reading_blocks=0)
    codes, *rest = inputs()
    edited = codes.clone()
    edited[0, 0, 0, 0] = (edited[0, 0, 0, 0] + 1) % 64
    reached = (model(codes, *rest) - model(edited, *rest)).abs().amax(dim=-1)[0] > 1e-6
    assert reached[0, :4, :4].all() and reached.sum() == 16


def test_saving_and_loading_gives_the_same_answers(model, tmp_path):
    model.save(tmp_path)
    loaded = SuperResolution.load(tmp_path)
    with torch.no_grad():
        assert torch.equal(model(*inputs()), loaded(*inputs()))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no model\.safetensors"):
        SuperResolution.load(tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 40, "head_width": 16}, "heads of 16"),
        ({"windows": ((1, 3, 4),)}, "must be even"),
        ({"num_bits": 7}, "do not divide"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        Config(**({"num_bits": 6, "text_size": 3} | values))


def test_the_default_shape_has_the_parameters_of_the_paper():
    with torch.device("meta"):
        model = SuperResolution(Config(**Shape().to_dict(), num_bits=18, text_size=1))
    assert 0.9e9 < sum(parameter.numel() for parameter in model.parameters()) < 1.1e9
