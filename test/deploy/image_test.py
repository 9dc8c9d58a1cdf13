"""deploy/image/build: what is in the image, that it is always the same, and what it refuses."""
import json
import os
import subprocess
import tarfile
import tempfile

import pytest

from installed import DEPLOY

BUILD = DEPLOY / "image/build"
NAME = "docker.io/library/vipd:v0.1.0"


def build(*words, prefix=()):
    return subprocess.run([*map(str, prefix), BUILD, *map(str, words)], capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rootfs") / "image"
    done = build("--rootfs", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("words,code,said", [
    (["vipd", "version"], 0, "vipd v"), (["kubectl-vip", "version"], 1, "kubectl-vip"), (["vipd-agent"], 2, "vipd-agent"),
    (["vipd", "reasons", "-o", "catalog"], 0, "Subject:"), (["vipd", "speaker", "--help"], 0, "--node"),
])
def test_its_programs_run_with_nothing_but_the_image(rootfs, words, code, said):
    done = subprocess.run(["/usr/sbin/chroot", rootfs, *words], capture_output=True, text=True, timeout=30, check=False,
                          env={"PATH": "/usr/bin"}, cwd="/")
    assert said in done.stdout + done.stderr and done.returncode == code, done


def test_it_holds_no_shell_no_package_manager_and_nothing_that_gives_rights(rootfs):
    names = {path.name for path in rootfs.rglob("*")}
    assert not names & {"sh", "bash", "dash", "busybox", "apt", "dpkg", "perl", "su", "mount"}
    assert [path for path in rootfs.rglob("*") if path.is_file() and not path.is_symlink() and
            path.stat().st_mode & 0o6002] == []
    assert "nobody:x:65534:" in (rootfs / "etc/passwd").read_text()


def test_the_same_input_gives_the_same_bytes(image, tmp_path):
    again = tmp_path / "again.tar"
    assert build("-o", again).returncode == 0
    assert again.read_bytes() == image.read_bytes()


def test_the_archive_is_one_that_container_engines_take(image, rootfs):
    with tarfile.open(image) as archive:
        def document(name):
            return json.load(archive.extractfile(name))

        def blob(entry):
            return document(f"blobs/{entry['digest'].replace(':', '/')}")

        assert document("oci-layout") == {"imageLayoutVersion": "1.0.0"}
        [entry] = document("index.json")["manifests"]
        assert entry["annotations"]["io.containerd.image.name"] == NAME
        manifest = blob(entry)
        config = blob(manifest["config"])
        assert config["config"]["Entrypoint"] == ["/usr/bin/vipd"]
        [layer] = manifest["layers"]
        with tarfile.open(fileobj=archive.extractfile(f"blobs/{layer['digest'].replace(':', '/')}")) as content:
            listed = {member.name for member in content}
            assert all((member.uid, member.gid, member.mtime) == (0, 0, 0) for member in content)
    assert listed == {os.path.relpath(os.path.join(folder, name), rootfs)
                      for folder, folders, files in os.walk(rootfs) for name in [*folders, *files]}


@pytest.fixture
def podman():
    """Runs podman with a store of its own, which is gone afterwards; its path must be short."""
    with tempfile.TemporaryDirectory(prefix="podman-", dir="/tmp") as folder:
        def run(*words):
            return subprocess.run([
                "podman", "--root", f"{folder}/root", "--runroot", f"{folder}/run", "--storage-driver", "vfs",
                "--cgroup-manager", "cgroupfs", "--runtime", "runc", *map(str, words)],
                capture_output=True, text=True, timeout=120, check=False)
        yield run
        run("rmi", "--all", "--force")


def test_podman_loads_and_runs_it(podman, image):
    def container(*words):
        return podman("run", "--rm", "--pull=never", "--network=none", "--ulimit=nofile=1024:1024",
                      "--ulimit=nproc=1024:1024", *words)

    loaded = podman("load", "-i", image)
    assert loaded.returncode == 0 and f"Loaded image: {NAME}" in loaded.stdout, loaded
    done = container(NAME, "version")
    assert done.returncode == 0 and done.stdout.startswith("vipd v"), done
    done = container("--cap-drop=ALL", NAME, "standalone", "--node", "n1", "--manifests", "/etc")
    assert done.returncode == 1 and "CAP_NET_ADMIN is missing: run as root, or give it to the" in done.stderr, done


def test_what_it_cannot_do_it_says(tmp_path):
    listed = tmp_path / "packages"
    listed.write_text("libc6\nlibnothing-of-the-kind\n")
    done = build("--packages", listed, "-o", tmp_path / "x.tar")
    assert (done.returncode, done.stderr) == (1, "build: not installed: apt-get install libnothing-of-the-kind\n")
    done = build("--from", tmp_path, "-o", tmp_path / "x.tar")
    assert done.returncode == 1 and "cmake --build --preset release" in done.stderr
    done = build("--rootfs", tmp_path)
    assert done.returncode == 1 and "is not empty" in done.stderr
    done = build("--link", "nonsense")
    assert done.returncode == 2 and "say it as A=B" in done.stderr
    assert not (tmp_path / "x.tar").exists()


def test_a_file_that_is_not_as_its_package_has_it_is_refused(tmp_path):
    changed = tmp_path / "libyaml"
    changed.write_bytes(b"something else")
    where = subprocess.run("dpkg -L libyaml-0-2 | grep 'so.*[.].*[.]'", shell=True, capture_output=True, text=True,
                           check=True).stdout.split()[-1]
    done = build("-o", tmp_path / "x.tar", prefix=[
        "unshare", "--mount", "sh", "-c", f'mount --bind {changed} {where} && "$0" "$@"'])
    assert done.returncode == 1 and f"{where} is not as its package has it" in done.stderr, done
