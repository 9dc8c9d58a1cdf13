"""Real virtual machines under qemu, in software if there is no other way, and their live migration.

Everything comes from Debian packages: qemu-system-x86, busybox-static, and the kernel that
linux-image-cloud-amd64 depends on, which is unpacked and not installed. The guest is an initramfs:
busybox, eight modules and one static server; it is up in some seconds.
"""
import gzip
import json
import os
import pathlib
import shutil
import socket
import stat
import subprocess
import time

import pytest

from lab import LabError, run, wait_for

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "vipd-test/guest"
MODULES = ["virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "failover",
           "net_failover", "virtio_net"]
# IPv6 is built into this kernel; a guest has one address of each family wherever it runs.
INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
for m in {modules}; do /bin/busybox insmod /mod/$m.ko; done
/bin/busybox sleep 0.2
echo 0 >/proc/sys/net/ipv6/conf/all/accept_dad
/bin/busybox ip link set lo up
/bin/busybox ip link set eth0 up
/bin/busybox ip addr add 10.0.2.2/24 dev eth0
/bin/busybox ip route add default via 10.0.2.1
/bin/busybox ip -6 addr add fd10:0:2::2/120 dev eth0 2>/dev/null
/bin/busybox ip -6 route add default via fd10:0:2::1 2>/dev/null
exec /bin/server {name} 22 80
"""


def packages():
    """Installs what is missing; skips, with the reason, only where that is impossible."""
    missing = [package for package, program in (("qemu-system-x86", "qemu-system-x86_64"), ("busybox-static", "busybox"))
               if not shutil.which(program)]
    if missing:
        done = run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing], timeout=600, check=False)
        if done.returncode != 0:
            pytest.skip(f"apt-get install {' '.join(missing)} failed: {done.stderr.strip()[-200:]}")


def kernel():
    """(kernel image, folder of its modules), unpacked into the cache."""
    root = CACHE / "root"
    if not list(root.glob("boot/vmlinuz-*")):
        CACHE.mkdir(parents=True, exist_ok=True)
        depends = run(["apt-cache", "depends", "linux-image-cloud-amd64"], check=False).stdout.split()
        names = [word for word in depends if word.startswith("linux-image-") and word != "linux-image-cloud-amd64"]
        if not names:
            pytest.skip("apt knows no linux-image-cloud-amd64: the guest has no kernel")
        done = subprocess.run(["apt-get", "download", names[0]], cwd=CACHE, capture_output=True, text=True,
                              timeout=600, check=False)
        if done.returncode != 0:
            pytest.skip(f"apt-get download {names[0]} failed: {done.stderr.strip()[-200:]}")
        run(["dpkg", "-x", next(CACHE.glob("linux-image-*.deb")), root], timeout=120)
    return next(root.glob("boot/vmlinuz-*")), next(root.glob("lib/modules/*/kernel"))


def entry(name, mode, data=b"", number=0):
    """One file of a cpio archive in the `newc` form."""
    name = name.encode() + b"\0"
    fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0]
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def initramfs(path, name, modules):
    server = path.with_suffix(".server")
    run(["cc", "-std=gnu17", "-D_GNU_SOURCE", "-O2", "-static", "-o", server, HERE / "guest_server.c"], timeout=60)
    files = {"bin/busybox": shutil.which("busybox"), "bin/server": server}
    for module in MODULES:
        files[f"mod/{module}.ko"] = next(modules.rglob(f"{module}.ko"))
    parts = [entry(folder, stat.S_IFDIR | 0o755) for folder in ("bin", "mod", "proc", "dev")]
    parts += [entry(file, stat.S_IFREG | 0o755, pathlib.Path(source).read_bytes(), number)
              for number, (file, source) in enumerate(files.items(), 1)]
    parts += [entry("init", stat.S_IFREG | 0o755, INIT.format(name=name, modules=" ".join(MODULES)).encode(), 99),
              entry("TRAILER!!!", 0)]
    path.write_bytes(gzip.compress(b"".join(parts), 1))
    return path


class Machine:
    """qemu inside a pod's network namespace, with a tap on the pod's bridge k6t."""

    def __init__(self, pod, name, incoming=False):
        self.pod, self.name = pod, name
        image, modules = kernel()
        initrd = pod.lab.dir / f"{name}.gz"
        if not initrd.exists():
            initramfs(initrd, name, modules)
        self.serial, self.qmp = pod.lab.dir / f"{pod.name}.serial", pod.lab.dir / f"{pod.name}.qmp"
        pod.run(["ip", "tuntap", "add", "tap0", "mode", "tap"])
        pod.run(["ip", "link", "set", "tap0", "master", "k6t", "up"])
        self.process = pod.start("qemu", [
            "qemu-system-x86_64", "-machine", "q35", "-cpu", "qemu64", "-m", "96", "-nographic", "-nodefaults",
            "-no-reboot", "-kernel", image, "-initrd", initrd, "-append", "console=ttyS0 quiet panic=1",
            "-serial", f"file:{self.serial}", "-netdev", "tap,id=n0,ifname=tap0,script=no,downscript=no",
            "-device", "virtio-net-pci,netdev=n0,mac=02:00:00:aa:bb:cc,romfile=",
            "-qmp", f"unix:{self.qmp},server=on,wait=off", *(["-incoming", "tcp:0:4444"] if incoming else [])])

    def booted(self, seconds=90):
        def look():
            if not self.process.alive():
                raise LabError(f"qemu ended: {self.process.output()[-500:]}")
            return self.serial.exists() and "GUEST-READY" in self.serial.read_text(errors="replace")
        wait_for(f"{self.name} to boot", look, seconds, 0.1)
        return self

    def ask(self, *commands):
        """Sends QMP commands, (name, arguments), over a connection of its own; the last one's answer."""
        wait_for("qmp", self.qmp.exists)
        with socket.socket(socket.AF_UNIX) as qmp:
            qmp.settimeout(10)
            qmp.connect(str(self.qmp))
            stream = qmp.makefile("rw")
            stream.readline()
            for name, arguments in [("qmp_capabilities", {}), *commands]:
                stream.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
                stream.flush()
                answer = {}
                while "return" not in answer:  # events come in between
                    answer = json.loads(stream.readline())
                    if "error" in answer:
                        raise LabError(f"{name}: {answer['error']}")
            return answer["return"]

    def migrate(self, target, seconds=60):
        """Really moves: what `query-migrate` says of it when it is complete."""
        wait_for("the target to listen", target.qmp.exists)
        self.ask(("migrate", {"uri": f"tcp:{target.pod.address4}:4444"}))

        def complete():
            seen = self.ask(("query-migrate", {}))
            if seen.get("status") in ("failed", "cancelled"):
                raise LabError(f"migration {seen}; target: {target.process.output()[-500:]}")
            return seen.get("status") == "completed" and seen
        return wait_for("the migration", complete, seconds, 0.005)

    def running(self, seconds=10):
        def look():
            if not self.process.alive():
                raise LabError(f"qemu of {self.pod.name} ended: {self.process.output()[-500:]}")
            return self.ask(("query-status", {}))["status"] == "running"
        wait_for(f"{self.name} to run in {self.pod.name}", look, seconds)
        return self
