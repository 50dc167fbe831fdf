"""What a proxy costs: CPU, memory, system calls, instructions."""

import os
import re
import subprocess
import time
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def cpu(processes):
    """Seconds that they have used, in user space and in the kernel."""
    user = system = 0
    for process in processes:
        for pid in process.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            user += int(fields[11])
            system += int(fields[12])
    return user / _TICK, system / _TICK


def resident(processes):
    """Bytes that are resident, of all of them."""
    total = 0
    for process in processes:
        for pid in process.pids():
            found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)
            total += int(found[1]) * 1024
    return total


def mapped(pid, program):
    """Bytes that are resident of a process: pages of its program's file, and those that are its own."""
    of_program = its_own = 0
    path = None
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        name, *rest = line.split(maxsplit=5)
        if not name.endswith(":"):
            path = rest[-1]
        elif name in ("Rss:", "Anonymous:"):
            size = int(rest[0]) * 1024
            if name == "Anonymous:":
                its_own += size
            if path == str(program):
                of_program += size if name == "Rss:" else -size
    if not of_program:
        raise RuntimeError(f"it is not {program} that runs there, as {pid}")
    return of_program, its_own


class Strace:
    """Counts the system calls of processes while it is attached."""

    def __init__(self, processes, out):
        self.out = out
        pids = [arg for process in processes for pid in process.pids() for arg in ("-p", str(pid))]
        self.child = subprocess.Popen(["strace", "-f", "-c", "-o", str(out), *pids], stderr=subprocess.DEVNULL)
        time.sleep(1)

    def calls(self):
        """Ends it; how many there were."""
        self.child.terminate()
        self.child.wait()
        # % time, seconds, microseconds a call, calls, and errors if there are any.
        total = re.search(r"^100\.00 +\S+ +\d+ +(\d+) .*total$", self.out.read_text(), re.M)
        return int(total[1]) if total else None


def instructions(log):
    """What callgrind counted, of all processes that wrote this log."""
    return sum(map(int, re.findall(r"Collected : (\d+)", Path(log).read_text(errors="replace"))))
