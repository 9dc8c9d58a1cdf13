"""What vipd's processes cost, from /proc."""
import os
import pathlib
import time


def ours(process):
    """{"engine": pid, "agent": pid, ...}: vipd's own processes below one that the lab started."""
    found = {}
    for pid in process.family():
        try:
            program = pathlib.Path(os.readlink(f"/proc/{pid}/exe")).name
            words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue  # it has ended meanwhile
        if program.startswith("vipd"):
            found.setdefault({"speaker": "engine", "standalone": "engine"}.get(words[1], words[1])
                             if program != "vipd-page" else "page", pid)
    return found


def memory_kib(pid):
    """(RSS, PSS, private): PSS shares what several processes map, on a lab's three nodes, too; private is what
    would go back to the machine if this process ended."""
    sums = {"Rss": 0, "Pss": 0, "Private_Clean": 0, "Private_Dirty": 0}
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name = line.partition(":")[0]
        if name in sums:
            sums[name] = int(line.split()[1])
    return sums["Rss"], sums["Pss"], sums["Private_Clean"] + sums["Private_Dirty"]


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_percent(pids, seconds):
    """{pid: percent of one core}, over so many seconds from now."""
    before = {pid: cpu_seconds(pid) for pid in pids}
    start = time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - start
    return {pid: (cpu_seconds(pid) - before[pid]) * 100 / passed for pid in pids}


def scheduled(pid):
    """Milliseconds: (on a processor, waiting for one) of all its threads so far."""
    ran = waited = 0
    for path in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
        ran, waited = (total + int(more) for total, more in zip((ran, waited), path.read_text().split()))
    return ran / 1e6, waited / 1e6
