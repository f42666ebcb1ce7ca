"""The queue: what it promises whatever happens to those who use it, in SQLite and in PostgreSQL. No model, no HTTP."""

import sqlite3
import threading
import time

import pytest

from videopoet.errors import ConfigError, DataError, TaskError
from videopoet.serving.jobs import Jobs, new_id
from videopoet.serving.queue_store import SCHEMA_VERSION


@pytest.fixture(params=["sqlite", "postgres"])
def place(request, tmp_path):
    """Where a queue of a test's own is."""
    return tmp_path / "queue.sqlite" if request.param == "sqlite" else request.getfixturevalue("new_database")()


@pytest.fixture
def jobs(place):
    opened = Jobs(place)
    yield opened
    opened.close()


def add(jobs, shape=None, owner="", most_queued=1000):
    request = {"fields": {}, "inputs": []}
    return jobs.add(new_id(), owner, "text_to_video", request, shape=shape, most_queued=most_queued)


def test_jobs_are_taken_in_the_order_of_their_arrival_and_each_once(jobs):
    added = [add(jobs) for _ in range(5)]
    taken = [jobs.claim(f"worker {number}")[0] for number in range(5)]
    assert [job.id for job in taken] == [job.id for job in added]
    assert {job.status for job in taken} == {"in_progress"}
    assert jobs.claim("another") == []


def test_jobs_of_one_shape_are_taken_together_and_others_wait(jobs):
    alike = [add(jobs, "a"), add(jobs, "a")]
    other = add(jobs, "b")
    alone = add(jobs)
    alike.append(add(jobs, "a"))
    assert [job.id for job in jobs.claim("worker", most=2)] == [job.id for job in alike[:2]]
    assert [job.id for job in jobs.claim("worker", most=4)] == [other.id]
    assert [job.id for job in jobs.claim("worker", most=4)] == [alone.id]


def test_a_job_whose_lease_runs_out_is_made_again_and_fails_the_second_time(jobs):
    job = add(jobs)
    for attempt in (1, 2):
        (taken,) = jobs.claim(f"worker {attempt}", lease_seconds=0.0)
        assert taken.attempts == attempt
        time.sleep(0.01)
        jobs.recover()
    ended = jobs.get(job.id, "")
    assert (ended.status, ended.error["code"]) == ("failed", "worker_lost")
    assert jobs.claim("worker 3") == []


def test_only_the_holder_of_a_lease_can_write_the_result(jobs):
    job = add(jobs)
    (first,) = jobs.claim("slow", lease_seconds=0.0)
    time.sleep(0.01)
    (second,) = jobs.claim("quick")
    assert not jobs.complete(first, {"by": "slow"})
    assert not jobs.fail(first, "late", "too late")
    assert jobs.keep([first]) == set()
    assert jobs.complete(second, {"by": "quick"})
    assert not jobs.complete(second, {"by": "quick again"})
    assert jobs.get(job.id, "").result == {"by": "quick"}


def test_a_heartbeat_keeps_a_job_and_progress_never_goes_back(jobs):
    job = add(jobs)
    (taken,) = jobs.claim("worker", lease_seconds=0.0)
    assert jobs.keep([taken], progress=40) == {job.id}
    jobs.keep([taken], progress=30)
    assert jobs.recover() == 0
    assert jobs.get(job.id, "").progress == 40


def test_a_job_that_killed_a_worker_takes_no_other_with_it(jobs):
    added = [add(jobs, "a") for _ in range(3)]
    jobs.see_worker("worker", "ready")
    assert len(jobs.claim("worker", most=4)) == 3
    assert jobs.release("worker")
    assert [[job.id for job in jobs.claim("next", most=4)] for _ in range(3)] == [[job.id] for job in added]


def test_what_is_given_back_keeps_its_place_and_its_attempts(jobs):
    first, second = add(jobs), add(jobs)
    (taken,) = jobs.claim("worker")
    jobs.give_back(taken)
    (again,) = jobs.claim("worker")
    assert (again.id, again.attempts) == (first.id, 1)
    assert jobs.claim("worker")[0].id == second.id


def test_a_cancelled_job_is_its_worker_s_no_more(jobs):
    job = add(jobs)
    (taken,) = jobs.claim("worker")
    assert jobs.cancel(job.id, "").status == "cancelled"
    assert jobs.keep([taken]) == set()
    assert not jobs.complete(taken, {})
    assert jobs.get(job.id, "").result is None


def test_the_queue_takes_exactly_as_many_as_it_may(jobs):
    refused = []
    for _ in range(42):
        try:
            add(jobs, most_queued=32)
        except TaskError as error:
            refused.append(error.code)
    assert jobs.counts()["queued"] == 32
    assert refused == ["queue_full"] * 10


def test_an_owner_sees_and_ends_only_their_own_jobs(jobs):
    job = add(jobs, owner="a")
    assert jobs.get(job.id, "b") is None
    assert jobs.list("b") == []
    assert jobs.cancel(job.id, "b") is None
    assert jobs.remove(job.id, "b") is None
    assert jobs.get(job.id, "a").status == "queued"


def test_a_page_begins_after_the_job_that_is_named(jobs):
    added = [add(jobs).id for _ in range(5)]
    newest = jobs.list("", limit=2)
    assert [job.id for job in newest] == added[:2:-1]
    assert [job.id for job in jobs.list("", after=newest[-1], limit=10)] == added[2::-1]
    assert [job.id for job in jobs.list("", newest_first=False)] == added


def test_many_workers_on_one_queue_end_every_job_exactly_once(place):
    opened = Jobs(place)
    total, ends = 120, []
    for _ in range(total):
        add(opened, "a")

    def work(name):
        own = Jobs(place)
        number = 0
        while own.counts()["queued"] or own.counts()["in_progress"]:
            for job in own.claim(name, most=3, lease_seconds=60):
                number += 1
                if number % 7 == 0:
                    own.give_back(job)  # as a worker that ends does
                elif own.complete(job, {"by": name}):
                    ends.append(job.id)
        own.close()

    threads = [threading.Thread(target=work, args=(f"worker {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(ends) == len(set(ends)) == total == opened.counts()["completed"]
    opened.close()


def test_a_queue_that_is_opened_again_has_all_that_was_in_it(place):
    first = Jobs(place)
    added = [add(first) for _ in range(3)]
    taken = first.claim("worker")  # and no close: the process is gone
    second = Jobs(place)
    assert [job.id for job in second.list("", newest_first=False)] == [job.id for job in added]
    assert second.get(taken[0].id, "").status == "in_progress"
    second.release("worker")
    assert [second.claim("next")[0].id for _ in added] == [job.id for job in added]
    second.close()
    first.close()


def test_a_damaged_file_is_refused_and_left_as_it_is(tmp_path):
    path = tmp_path / "queue.sqlite"
    path.write_bytes(b"not a database, but something that somebody may want back" * 100)
    before = path.read_bytes()
    with pytest.raises(DataError, match="damaged") as raised:
        Jobs(path)
    assert raised.value.code == "queue_corrupt"
    assert path.read_bytes() == before


def test_a_file_of_a_newer_version_is_refused(tmp_path):
    path = tmp_path / "queue.sqlite"
    Jobs(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(DataError, match="schema 2") as raised:
        Jobs(path)
    assert raised.value.code == "queue_version"


def test_a_full_disk_is_said_and_the_queue_goes_on_once_there_is_room(tmp_path):
    jobs = Jobs(tmp_path / "queue.sqlite")
    connection = jobs._store._connection()
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    request = {"fields": {"prompt": "x" * 100_000}, "inputs": []}
    with pytest.raises(DataError, match="disk is full") as raised:
        jobs.add(new_id(), "", "text_to_video", request, most_queued=9)
    assert raised.value.code == "disk_full"
    connection.execute(f"PRAGMA max_page_count = {pages + 1000}")
    job = jobs.add(new_id(), "", "text_to_video", request, most_queued=9)
    assert [one.id for one in jobs.list("")] == [job.id]


def test_a_queue_that_another_keeps_locked_is_busy(tmp_path):
    jobs = Jobs(tmp_path / "queue.sqlite")
    jobs._store._connection().execute("PRAGMA busy_timeout = 1")
    with Jobs(tmp_path / "queue.sqlite")._store.writing(), pytest.raises(DataError, match="busy") as raised:
        jobs.recover() or add(jobs)
    assert raised.value.code == "queue_busy"
    add(jobs)


def test_a_queue_in_a_folder_that_is_gone_is_an_error_of_ours(tmp_path):
    with pytest.raises(DataError, match=r"queue\.sqlite cannot be used") as raised:
        Jobs(tmp_path / "gone" / "queue.sqlite")
    assert raised.value.code == "queue_unreachable" and str(tmp_path) not in str(raised.value)


def test_a_commit_that_fails_leaves_no_transaction_open(tmp_path):
    jobs = Jobs(tmp_path / "queue.sqlite")
    connection = jobs._store._connection()
    connection.set_authorizer(lambda _, what, *rest: sqlite3.SQLITE_DENY if what == "COMMIT" else sqlite3.SQLITE_OK)
    with pytest.raises(sqlite3.DatabaseError):
        add(jobs)
    connection.set_authorizer(None)
    kept = add(jobs)
    assert [job.id for job in jobs.list("")] == [kept.id]


def test_ids_have_128_random_bits():
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(job_id) == len("video_") + 32 for job_id in ids)


def test_jobs_that_arrive_at_once_are_all_written_up_to_the_limit(jobs):
    results, together = [], threading.Barrier(20)

    def submit():
        together.wait()
        try:
            results.append(add(jobs, most_queued=12).id)
        except TaskError as error:
            results.append(error.code)

    threads = [threading.Thread(target=submit) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results.count("queue_full") == 8
    assert {job.id for job in jobs.list("", limit=100)} == set(results) - {"queue_full"}


def test_what_workers_say_of_themselves_is_known_to_all(jobs, place):
    assert jobs.workers() == {} and jobs.model() is None
    other = Jobs(place)
    other.see_worker("one", "loading")
    other.see_worker("one", "ready", {"name": "poet", "tasks": []})
    other.see_worker("one", "ready")
    other.see_worker("two", "loading")
    assert jobs.workers() == {"ready": 1, "loading": 1}
    other.see_worker("one", "ready", {"name": "poet", "tasks": ["text_to_video"]})
    assert jobs.model() == {"name": "poet", "tasks": ["text_to_video"]}
    assert other.release("one") and not other.release("one")
    other.close()


def test_the_time_that_jobs_took_is_summed(jobs):
    assert jobs.seconds_spent() == (0.0, 0.0, 0)
    add(jobs)
    (taken,) = jobs.claim("worker")
    jobs.complete(taken, {})
    waited, worked, count = jobs.seconds_spent()
    assert waited >= 0 and worked >= 0 and count == 1
    assert taken.created_at <= taken.started_at <= taken.lease_until


def test_a_database_of_a_newer_version_is_refused_and_left_as_it_is(new_database):
    import psycopg

    address = new_database()
    Jobs(address).close()
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("UPDATE videopoet.version SET number = number + 1")
        with pytest.raises(DataError, match=f"schema {SCHEMA_VERSION + 1}") as raised:
            Jobs(address)
        assert raised.value.code == "queue_version"
        assert connection.execute("SELECT number FROM videopoet.version").fetchone() == (SCHEMA_VERSION + 1,)


def test_a_database_that_is_begun_again_is_waited_for(postgres, new_database):
    jobs = Jobs(new_database())
    job = add(jobs)
    postgres.restart()
    assert jobs.get(job.id, "").status == "queued"
    assert jobs.claim("worker")[0].id == job.id
    jobs.close()


def test_a_database_that_does_not_answer_is_an_error_without_its_address(monkeypatch, tmp_path):
    pytest.importorskip("psycopg_pool")
    monkeypatch.setattr("videopoet.serving.queue_postgres.PATIENCE_SECONDS", 0.2)
    with pytest.raises(DataError, match="does not answer") as raised:
        Jobs(f"postgresql://somebody:secret@/nothing?host={tmp_path}")
    assert raised.value.code == "queue_unreachable"
    assert "secret" not in str(raised.value) and str(tmp_path) not in str(raised.value)


def test_an_address_that_cannot_be_read_is_refused():
    pytest.importorskip("psycopg_pool")
    with pytest.raises(ConfigError, match="cannot be read"):
        Jobs("postgresql://host:port:more/x?nonsense=1")
