"""What -v prints while a call runs: a command that hangs, a lock that is held."""

import re
import subprocess
from pathlib import Path

from doubles import stand_in
from lab import wait_until
from person import Person
from runtime import network
from scene import Scene

from cni_ipvlan.state.registry import Registry

BEGUN = re.compile(r"\[(\d+)\] \+ (.*)")
ENDED = re.compile(r"\[(\d+)\]   (\d+\.\d) ms(, status \d+)?")
SLOW_IP = """\
case "$*" in "link add "*" type ipvlan "*) until [ -e go ]; do sleep 0.05; done ;; esac
exec $real "$@"
"""


class Watched:
    """A command under way, whose stderr is read as it comes."""

    def __init__(self, person: Person, line: str, **environment: str) -> None:
        self._stderr = person.directory / "stderr"
        with self._stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                ["sh", "-c", f"exec {line}"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env={**person.environment, **environment},
                cwd=person.directory,
            )

    @property
    def lines(self) -> list[str]:
        """The lines until now."""
        return self._stderr.read_text().splitlines()

    def wait_for(self, words: str) -> str:
        """Wait for a line with these words; return it."""
        wait_until(lambda: any(words in line for line in self.lines))
        return next(line for line in self.lines if words in line)

    def end(self) -> int:
        return self.process.wait(60)


def test_a_command_that_hangs_is_seen_and_then_its_time(scene: Scene, person: Person) -> None:
    conf = person.writes(network())
    path = f"{stand_in(person.directory / 'tools', 'ip', SLOW_IP)}:{person.environment['PATH']}"

    call = Watched(person, f"ipvlan add -c {conf} --netns container1 -v", PATH=path)
    begun = BEGUN.fullmatch(call.wait_for(" type ipvlan "))
    assert begun
    assert begun[2].endswith("  # create an ipvlan interface of eth0")
    assert not any(line.startswith(f"[{begun[1]}]   ") and " ms" in line for line in call.lines)
    assert call.process.poll() is None
    (person.directory / "go").touch()

    assert call.end() == 0
    assert begun[1] in {match[1] for match in map(ENDED.fullmatch, call.lines) if match}


def test_a_wait_for_the_master_is_said(scene: Scene, person: Person) -> None:
    conf = person.writes(network())
    inode = Path("/proc/self/ns/net").stat().st_ino
    index = scene.host.links()["eth0"]["ifindex"]

    with Registry().master_lock((inode, index), lambda: None):
        call = Watched(person, f"ipvlan add -c {conf} --netns container1 -v")
        assert call.wait_for("waiting") == (
            "waiting for the lock of the master eth0, which another process holds"
        )
        assert call.process.poll() is None

    assert call.end() == 0
    assert sum("waiting" in line for line in call.lines) == 1
