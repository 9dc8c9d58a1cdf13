"""cgroups of a lab, in every hierarchy: one for each node with a kubelet, one that is short of memory."""
import os
import pathlib
import re

from lab import PREFIX, LabError, run, start_time, wait_for

CGROUPS = pathlib.Path("/sys/fs/cgroup")


def hierarchies():
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [path for path in CGROUPS.iterdir() if (path / "cgroup.procs").exists() and not path.is_symlink()]


def make_cgroup(name):
    for hierarchy in hierarchies():
        folder = hierarchy / name
        folder.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):  # v1 leaves them empty, and nothing runs without
            if (hierarchy / setting).exists() and (folder / setting).exists():
                (folder / setting).write_text((hierarchy / setting).read_text())
        if hierarchy == CGROUPS:
            wanted = " ".join(f"+{word}" for word in (CGROUPS / "cgroup.controllers").read_text().split())
            (CGROUPS / "cgroup.subtree_control").write_text(wanted)


def remove_cgroups(prefix):
    """Answers those that are still there, because somebody is in them."""
    left = []
    for hierarchy in hierarchies():
        for top in hierarchy.glob(f"{prefix}*"):
            for folder, *_ in os.walk(top, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    left.append(folder)
    return left


def sweep_cgroups():
    """Removes those of labs whose maker is gone."""
    for hierarchy in hierarchies():
        for top in hierarchy.glob(f"{PREFIX}*"):
            match = re.match(rf"({PREFIX}(\d+)-(\d+)-\d+-)", top.name)
            if match and start_time(match.group(2)) != int(match.group(3)):
                remove_cgroups(match.group(1))


def run_out_of_memory(name, pids, mebibytes=64):
    """Puts them into a cgroup in which somebody takes more than there is: how many processes the kernel killed for it."""
    make_cgroup(name)
    for hierarchy in hierarchies():
        folder = hierarchy / name
        limit = next((folder / file for file in ("memory.max", "memory.limit_in_bytes") if (folder / file).exists()), None)
        if not limit:
            continue
        limit.write_text(str(mebibytes << 20))
        for pid in pids:
            pathlib.Path(f"/proc/{pid}/oom_score_adj").write_text("1000")  # before the one who takes it
            (folder / "cgroup.procs").write_text(str(pid))
        run(["sh", "-c", f"echo $$ >{folder}/cgroup.procs && exec tail /dev/zero"], timeout=20, check=False)
        events = next(folder / file for file in ("memory.events", "memory.oom_control") if (folder / file).exists())
        killed = int(re.search(r"^oom_kill (\d+)$", events.read_text(), re.MULTILINE)[1])
        wait_for("the cgroup to be empty", lambda: not remove_cgroups(name), 10)
        return killed
    raise LabError("no cgroup can limit memory here")
