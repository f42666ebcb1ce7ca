import errno
from pathlib import Path

import pytest
import torch

from videopoet.data.duplicates import Duplicates
from videopoet.data.scratch import Scratch


def test_a_full_disk_is_an_os_error_that_names_the_folder():
    scratch = Scratch("CREATE TABLE words (word TEXT)", "PRAGMA max_page_count = 8")
    with pytest.raises(OSError, match="TMPDIR") as caught:
        scratch.executemany("INSERT INTO words VALUES (?)", [("word" * 999,)] * 99)
    assert caught.value.errno == errno.ENOSPC
    assert Path(caught.value.filename).is_dir()
    scratch.close()
    assert not Path(caught.value.filename).exists()


def test_duplicates_that_find_no_room_say_so():
    duplicates = Duplicates()
    duplicates._database.execute("PRAGMA max_page_count = 8")
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(OSError, match="for temporary files"):
        for number in range(99):
            duplicates.add(f"{number}", torch.randint(256, (4, 16, 16), generator=generator, dtype=torch.uint8))
    duplicates.close()
