import torch
from torch import nn

from videopoet.training import optimizer


def test_an_orthogonalized_matrix_has_singular_values_near_one():
    for shape in ((32, 32), (16, 48), (48, 16)):
        matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        values = torch.linalg.svdvals(optimizer.orthogonalize(matrix).float())
        assert values.min() > 0.3 and values.max() < 1.4


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
