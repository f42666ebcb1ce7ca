import pytest
import torch

from videopoet.nn.attention import Attention, GatedMlp, cut, even_window, inside, join, rotary_angles, turn


def attention(width=32, head_width=16):
    torch.manual_seed(0)
    layer = Attention(width, head_width)
    torch.nn.init.normal_(layer.to_result.weight)
    return layer


@pytest.mark.parametrize("window", [(1, 6, 2), (1, 4, 5), (2, 4, 3), (3, 6, 5)])
def test_what_is_cut_into_windows_joins_again(window):
    x = torch.randn(2, 3, 6, 5, 4)
    assert torch.equal(join(cut(x, window), window, (3, 6, 5)), x)


def test_a_window_holds_neighbours():
    rows = torch.arange(6).view(1, 1, 6, 1, 1).expand(1, 2, 6, 4, 1).float()
    windows = cut(rows, (1, 3, 4))
    assert windows.shape == (4, 12, 1)
    assert windows[0].unique().tolist() == [0, 1, 2] and windows[1].unique().tolist() == [3, 4, 5]


def test_windows_that_stick_out_say_where_they_hold_something():
    assert inside((3, 6, 4), (1, 3, 4), 2) is None
    held = inside((1, 3, 5), (1, 3, 3), 2)
    assert held is not None and held.shape == (4, 9)
    assert held.sum(dim=1).tolist() == [9, 6, 9, 6]


@pytest.mark.parametrize(
    ("size", "most", "expected"), [(16, 4, 4), (18, 8, 6), (9, 4, 3), (10, 4, 4), (5, 8, 5), (7, None, 7), (1, 8, 1)]
)
def test_a_side_is_cut_into_few_nearly_equal_parts_and_none_of_them_is_empty(size, most, expected):
    window = even_window((1, size, 1), (1, most, 1))[1]
    assert window == expected
    assert (-(-size // window) - 1) * window < size


def test_a_product_of_turned_pairs_depends_on_the_distance_alone():
    angles = rotary_angles((3, 8, 8), 32)
    query, key = torch.randn(1, 32), torch.randn(1, 32)

    def product(place, other):
        index = [((t * 8) + h) * 8 + w for t, h, w in (place, other)]
        return (turn(query, angles[index[0]][None]) * turn(key, angles[index[1]][None])).sum()

    torch.testing.assert_close(product((0, 1, 2), (1, 3, 5)), product((1, 4, 3), (2, 6, 6)))
    assert (product((0, 1, 2), (1, 3, 5)) - product((0, 1, 2), (1, 3, 6))).abs() > 1e-3


def test_a_coarse_place_lies_in_the_middle_of_the_fine_ones():
    fine, coarse = rotary_angles((1, 4, 2), 16), rotary_angles((1, 2, 1), 16, spacing=2)
    torch.testing.assert_close(coarse[1], fine.view(4, 2, 8)[2:4].mean(dim=(0, 1)))


def test_what_is_not_visible_changes_nothing():
    layer, x, context = attention(), torch.randn(2, 3, 32), torch.randn(2, 5, 32)
    visible = torch.tensor([[True] * 5, [True, True, False, False, True]])
    edited = context.clone()
    edited[1, 2:4] = 7.0
    assert torch.equal(layer(x, context, visible=visible), layer(x, edited, visible=visible))
    assert not torch.equal(layer(x, context), layer(x, edited))


def test_places_let_attention_tell_equal_tokens_apart():
    layer, context = attention(), torch.randn(1, 1, 32).expand(1, 8, 32).clone()
    context[0, 3] = torch.randn(32)
    angles = rotary_angles((1, 2, 4), 16)
    x = torch.ones(1, 8, 32)
    blind, seeing = layer(x, context), layer(x, context, places=(angles, angles))
    torch.testing.assert_close(blind[0, 0], blind[0, 7])
    assert (seeing[0, 0] - seeing[0, 7]).abs().max() > 1e-3


def test_fresh_layers_add_nothing():
    x = torch.randn(1, 4, 32)
    assert not Attention(32, 16)(x, x).any() and not GatedMlp(32, 48)(x).any()
