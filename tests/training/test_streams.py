from videopoet import ranks
from videopoet.training.streams import Streams


def source(seed):
    return lambda number: f"{seed}: {number}"


def test_a_process_with_twice_the_accumulation_reads_what_two_read(monkeypatch):
    alone = Streams(source, 7, accumulation=2)
    steps = [[alone(2 * step + part) for part in range(2)] for step in range(3)]
    monkeypatch.setattr(ranks, "count", lambda: 2)
    both = [Streams(source, 7, accumulation=1) for _ in range(2)]
    assert [[both[rank](2 * step + rank) for rank in range(2)] for step in range(3)] == steps


def test_streams_differ_and_each_is_read_in_order():
    batches = Streams(source, 7, accumulation=3)
    read = [batches(index) for index in range(9)]
    assert len(set(read)) == 9
    assert read[::3] == ["7: 0", "7: 1", "7: 2"]


def test_a_process_opens_only_the_streams_that_it_reads(monkeypatch):
    monkeypatch.setattr(ranks, "count", lambda: 4)
    opened = []
    batches = Streams(lambda seed: opened.append(seed) or source(seed), 7, accumulation=1)
    for step in range(3):
        batches(4 * step + 2)
    assert opened == ["7, stream 2"]
