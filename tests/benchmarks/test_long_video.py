import pytest


@pytest.fixture
def long_video(benchmark):
    return benchmark("long_video")


def test_growth_is_that_of_the_end_over_the_beginning_after_the_warm_up(long_video):
    assert long_video.growth([1, 50, 100, 90, 100, 95, 100, 80, 110, 105], warm_up=2) == pytest.approx(0.1)
    assert long_video.growth([10, 10, 10], warm_up=0) == 0


def test_a_watched_film_passes_its_parts_on_and_notes_memory_for_each(long_video):
    parts = ["a", "b", "c"]
    watched = long_video.Watched(parts)
    assert list(watched) == parts
    assert len(watched.resident) == 3 and min(watched.resident) > 1_000_000
