import copy
from pathlib import Path

import pytest
import torch
import torch.distributed as distributed
import torch.multiprocessing as multiprocessing

from videopoet import ranks
from videopoet.nn.losses import LeCamRegularizer
from videopoet.nn.residual_quantizer import ResidualVectorQuantizer
from videopoet.ranks import average_gradients, from_first_rank, mean_over_ranks, sum_over_ranks

LATENTS = torch.randn(4, 3, 16, generator=torch.Generator().manual_seed(0))
LOGITS = torch.arange(4.0)
NAMES = ("shared", "own", "frozen")


def step(rank: int, num_ranks: int, folder: Path, quantizer: ResidualVectorQuantizer) -> None:
    torch.set_num_threads(1)
    rendezvous = f"file://{folder / 'rendezvous'}"
    distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=num_ranks)
    quantizer(LATENTS.chunk(num_ranks)[rank], generator=torch.Generator().manual_seed(rank))
    regularizer = LeCamRegularizer()
    regularizer(LOGITS.chunk(num_ranks)[rank], -LOGITS.chunk(num_ranks)[rank])
    torch.save([quantizer.codebooks, quantizer.counts, regularizer.real], folder / f"{rank}.pt")
    distributed.destroy_process_group()


def average(rank: int, num_ranks: int, folder: Path) -> None:
    rendezvous = f"file://{folder / 'rendezvous'}"
    distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=num_ranks)
    shared, own, frozen = (torch.nn.Parameter(torch.zeros(2, 3), requires_grad=name != "frozen") for name in NAMES)
    shared.grad = torch.full((2, 3), 1.0 + 2 * rank)
    own.grad = torch.full((2, 3), 8.0) if rank else None
    ranks.MOST_SENT = 6  # each in a message of its own
    average_gradients([shared, own, frozen])
    torch.save([shared.grad, own.grad, frozen.grad], folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.skipif(not distributed.is_available(), reason="this torch has no torch.distributed")
def test_gradients_are_averaged_also_where_a_process_has_none(tmp_path):
    multiprocessing.start_processes(average, (2, tmp_path), nprocs=2, start_method="fork")
    for rank in range(2):
        shared, own, frozen = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert torch.equal(shared, torch.full((2, 3), 2.0)) and torch.equal(own, torch.full((2, 3), 4.0))
        assert frozen is None


def test_alone_nothing_changes():
    tensor = torch.randn(3)
    for function in (sum_over_ranks, mean_over_ranks, from_first_rank):
        assert torch.equal(function(tensor.clone()), tensor)


@pytest.mark.skipif(not distributed.is_available(), reason="this torch has no torch.distributed")
def test_two_processes_hold_what_one_with_the_whole_batch_would(tmp_path):
    quantizer = ResidualVectorQuantizer(3, codebook_size=8, num_quantizers=2, dead_code_threshold=0.0)
    quantizer(LATENTS.flip(0), generator=torch.Generator().manual_seed(0))
    arguments = (2, tmp_path, copy.deepcopy(quantizer))
    multiprocessing.start_processes(step, arguments, nprocs=2, start_method="fork")
    quantizer(LATENTS)
    regularizer = LeCamRegularizer()
    regularizer(LOGITS, -LOGITS)
    for rank in range(2):
        held = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for mine, whole in zip(held, (quantizer.codebooks, quantizer.counts, regularizer.real), strict=True):
            assert torch.allclose(mine, whole, atol=1e-6)


@pytest.mark.skipif(not distributed.is_available(), reason="this torch has no torch.distributed")
def test_two_processes_begin_with_the_same_codebooks(tmp_path):
    quantizer = ResidualVectorQuantizer(3, codebook_size=8, num_quantizers=2, dead_code_threshold=1.0)
    multiprocessing.start_processes(step, (2, tmp_path, quantizer), nprocs=2, start_method="fork")
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
