import os
import signal
import subprocess
import sys

import pytest

from vemosaic.blocks import claim
from vemosaic.errors import OutputError

HOLD = """
import sys, time
from pathlib import Path
from vemosaic.blocks import claim
with claim(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_claim_is_refused_in_one_line_and_a_later_one_granted(tmp_path):
    folder = tmp_path / "new" / "run"
    with claim(folder):
        with pytest.raises(OutputError) as caught, claim(folder):
            pass
        assert f"{folder}: another run is working in it (process {os.getpid()} on" in str(caught.value)
        assert "\n" not in str(caught.value)
    with claim(folder):
        pass


def test_other_folders_are_free(tmp_path):
    with claim(tmp_path / "a"), claim(tmp_path / "b"):
        pass


def test_a_killed_run_leaves_no_lock(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(OutputError, match=f"process {holder.pid}"), claim(tmp_path):
            pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    with claim(tmp_path):
        pass


def test_an_exception_ends_the_claim(tmp_path):
    with pytest.raises(KeyError), claim(tmp_path):
        raise KeyError
    with claim(tmp_path):
        pass
