"""Types are planned on import: msgspec crashes where two threads plan one at once."""

import subprocess
import sys

SCRIPT = """
import sys, threading

sys.setswitchinterval(1e-6)
from models.fold.partition import PartitionState
from schemas.scopes import parse_policy

TEXT = "guards = {tick_minor = 5}"
begin, found = threading.Barrier(8), []


def decode():
    begin.wait()
    state = PartitionState(0, "engine")
    state.set_policy(TEXT)
    restored = PartitionState.restore(0, state.all_records(), "engine")
    found.append((restored.policy.guards.tick_minor, restored.policy_text == TEXT))


threads = [threading.Thread(target=decode) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(found == [(5, True)] * 8)
"""


def test_threads_that_decode_at_once_leave_the_process_alive() -> None:
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr[-500:]) == (0, "True\n", "")
