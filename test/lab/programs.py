"""Programs of a lab: commands that are run to their end, those that go on beside a test, and what they say."""
import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time


class LabError(Exception):
    pass


def start_time(pid):
    """When a process started, in ticks since boot; None if there is none."""
    try:
        return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, IndexError):
        return None


def wait_for(what, condition, seconds=10.0, every=0.02):
    """Waits until condition() is true and answers it; `what` ends the sentence "waited for"."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise LabError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(every)


def run(command, timeout=30, check=True, text=None):
    done = subprocess.run([str(word) for word in command], input=text, capture_output=True, text=True,
                          timeout=timeout, check=False)
    if check and done.returncode != 0:
        raise LabError(f"{' '.join(map(str, command))}: exit {done.returncode}: "
                       f"{(done.stderr or done.stdout).strip()}")
    return done


@contextlib.contextmanager
def busy_processors():
    """Two processes for each that never sleep."""
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * os.cpu_count())]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


class Process:
    """A program in a namespace; its output goes to `log`, one line after another, restarts included."""

    def __init__(self, name, command, log, env=None, stdin=None):
        self.name, self.log = name, pathlib.Path(log)
        self.offset = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "ab") as output:
            self.popen = subprocess.Popen(
                [str(word) for word in command], stdin=stdin or subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}, start_new_session=True)

    @property
    def pid(self):
        return self.popen.pid

    def alive(self):
        return self.popen.poll() is None

    def family(self):
        """The process and all its descendants."""
        parents = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    stat = pathlib.Path(f"/proc/{entry}/stat").read_text()
                    parents[int(entry)] = int(stat.rpartition(")")[2].split()[1])
                except (OSError, IndexError):
                    pass
        found = [self.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def children(self):
        return self.family()[1:]

    def signal(self, number, everyone=True):
        for pid in self.family() if everyone else [self.pid]:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def kill(self):
        """SIGKILL to it and its children, in the same instant as far as this is possible."""
        self.signal(signal.SIGKILL)
        self.popen.wait(10)

    def stop(self, timeout=15):
        """SIGTERM and the exit code; SIGKILL if it does not end in time."""
        if self.alive():
            self.popen.send_signal(signal.SIGTERM)
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise LabError(f"{self.name} did not end within {timeout} s after SIGTERM; log {self.log}") from None

    def output(self):
        """What it has said; nothing when its lab has been cleared away."""
        if not self.log.exists():
            return ""
        with open(self.log, "rb") as file:
            file.seek(self.offset)
            return file.read().decode(errors="replace")

    def wait_output(self, pattern, seconds=10.0):
        def look():
            found = re.search(pattern, self.output())
            if not found and not self.alive():
                raise LabError(f"{self.name} ended with {self.popen.returncode}: {self.output()[-2000:]}")
            return found
        return wait_for(f"{self.name} to say {pattern!r}", look, seconds)


class Probe(Process):
    """test/tools/probe running in a namespace: events as dictionaries, stop() answers the summary."""
    ending = False

    def events(self):
        found = []
        for line in self.output().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                pass  # the last line may be half written
        return found

    def end(self):
        """Asks nothing any more; late answers still count. stop() waits for the summary."""
        if not self.alive() and not self.ending:
            raise LabError(f"{self.name} ended early: {self.output()[-500:]}")
        self.ending = True
        self.popen.send_signal(signal.SIGTERM)

    def stop(self, timeout=5):
        if not self.ending:
            self.end()
        super().stop(timeout)
        events = self.events()
        if not events or events[-1].get("event") != "summary":
            raise LabError(f"{self.name} gave no summary: {self.output()[-500:]}")
        return events[-1]
