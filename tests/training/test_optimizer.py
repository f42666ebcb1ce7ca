import sys

import pytest
import torch
from torch import nn

from videopoet import checkpoint, runtime
from videopoet.errors import ConfigError
from videopoet.training import checkpoints, loop, optimizer


def test_an_orthogonalized_matrix_has_singular_values_near_one():
    for shape in ((32, 32), (16, 48), (48, 16)):
        matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        values = torch.linalg.svdvals(optimizer.orthogonalize(matrix[None])[0].float())
        assert values.min() > 0.3 and values.max() < 1.4


def test_a_matrix_is_orthogonalized_by_its_gram_as_it_is_by_itself(monkeypatch):
    monkeypatch.setattr(runtime, "compute_dtype", lambda device: torch.float32)
    matrix = torch.randn(48, 96, generator=torch.Generator().manual_seed(0)) * torch.logspace(0, -3, 96)
    x = matrix.double() / matrix.double().norm()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    torch.testing.assert_close(optimizer.orthogonalize(matrix[None])[0].double(), x, atol=1e-4, rtol=1e-3)


def test_muon_takes_matrices_and_leaves_tables_and_vectors_to_adamw():
    module = nn.ModuleDict({"embed": nn.Embedding(8, 4), "inside": nn.Linear(4, 4), "head": nn.Linear(4, 8)})
    adamw, muon = optimizer.build(module, optimizer.Config(name="muon"))
    assert [p is module["inside"].weight for g in muon.param_groups for p in g["params"]] == [True]
    assert sum(len(group["params"]) for group in adamw.param_groups) == 4


def test_the_schedule_warms_up_and_falls_to_its_end():
    config = optimizer.Config(warmup_steps=10, final_share=0.1)
    shares = [optimizer.schedule(step, 100, config) for step in range(101)]
    assert shares[0] == 0.1 and shares[9] == 1.0
    assert all(later <= earlier for earlier, later in zip(shares[10:], shares[11:], strict=False))
    assert abs(shares[100] - 0.1) < 1e-9


def table_and_matrix() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict({"embed": nn.Embedding(8, 4), "inside": nn.Linear(96, 64)})


def steps(module: nn.Module, optimizers: list[torch.optim.Optimizer], numbers: range) -> None:
    for number in numbers:
        for parameter in module.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
        for each in optimizers:
            each.step()


def test_adamw_moves_weights_as_that_of_torch_does_and_goes_on_from_its_moments():
    own, plain = table_and_matrix(), table_and_matrix()
    groups = [{"params": [p for p in plain.parameters() if (p.ndim >= 2) == is_matrix]} for is_matrix in (True, False)]
    groups[1]["weight_decay"] = 0.0
    loops = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1, foreach=False)
    config = optimizer.Config(learning_rate=1e-2, weight_decay=0.1)
    steps(own, optimizer.build(own, config), range(4))
    steps(plain, [loops], range(4))
    torch.testing.assert_close(own.state_dict(), plain.state_dict())
    fresh = optimizer.build(plain, config)
    optimizer.load_state_tensors(fresh, optimizer.state_tensors([loops]))
    steps(plain, fresh, range(4, 8))
    expected = table_and_matrix()
    steps(expected, optimizer.build(expected, config), range(8))
    torch.testing.assert_close(plain.state_dict(), expected.state_dict())


def test_moments_of_eight_bits_move_weights_much_as_those_of_32_do():
    pytest.importorskip("bitsandbytes")
    modules = [table_and_matrix() for _ in range(2)]
    begun = modules[0]["inside"].weight.detach().clone()
    for name, module in zip(("adamw", "adamw_8bit"), modules, strict=True):
        steps(module, optimizer.build(module, optimizer.Config(name=name, learning_rate=1e-2)), range(10))
    exact, near = (module["inside"].weight.detach() - begun for module in modules)
    assert 0 < (near - exact).norm() < 0.1 * exact.norm()


def test_moments_of_eight_bits_take_a_quarter_of_the_bytes():
    pytest.importorskip("bitsandbytes")
    module = table_and_matrix()
    optimizers = optimizer.build(module, optimizer.Config(name="adamw_8bit"))
    steps(module, optimizers, range(1))
    (kept,) = [entry for p, entry in optimizers[0].state.items() if p is module["inside"].weight]
    moments = sum(kept[name].nbytes for name in ("state1", "state2", "absmax1", "absmax2"))
    assert moments < 0.26 * 2 * module["inside"].weight.nbytes


def test_moments_of_eight_bits_resume_to_the_same_bits(tmp_path):
    pytest.importorskip("bitsandbytes")
    config = optimizer.Config(name="adamw_8bit", learning_rate=1e-2)
    unbroken, broken = table_and_matrix(), table_and_matrix()
    steps(unbroken, optimizer.build(unbroken, config), range(6))
    optimizers = optimizer.build(broken, config)
    steps(broken, optimizers, range(3))
    checkpoint.save_tensors(tmp_path / "optimizer.safetensors", optimizer.state_tensors(optimizers))
    optimizers = optimizer.build(broken, config)
    tensors = optimizer.empty_state(optimizers, checkpoints.described(tmp_path, "optimizer"))
    checkpoints.read(tmp_path, "optimizer", tensors)
    optimizer.load_state_tensors(optimizers, tensors)
    steps(broken, optimizers, range(3, 6))
    for name, tensor in unbroken.state_dict().items():
        assert torch.equal(broken.state_dict()[name], tensor), name


def test_without_bitsandbytes_eight_bits_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ConfigError, match=r"videopoet\[eight-bit\]") as caught:
        optimizer.build(table_and_matrix(), optimizer.Config(name="adamw_8bit"))
    assert caught.value.code == "extra_missing"


def test_moments_of_eight_bits_are_not_divided():
    with pytest.raises(ConfigError, match="sharding=none"):
        loop.Config(sharding="full", optimizer=optimizer.Config(name="adamw_8bit"))


def test_kept_rows_lose_their_gradient_and_no_others_do():
    table = nn.Embedding(8, 4)
    table.weight.kept_rows = 3
    table.weight.grad = torch.ones(8, 4)
    optimizer.keep_rows(table)
    assert torch.equal(table.weight.grad.sum(dim=1), torch.tensor([0.0] * 3 + [4.0] * 5))
