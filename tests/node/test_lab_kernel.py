"""scripts/lab-kernel: the command's input, and the shell."""

import os
import pty
import select
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import sampling

CHECKOUT = Path(__file__).resolve().parents[2]
LAB = str(CHECKOUT / "scripts/lab-kernel")
PATIENCE = 200.0
SLAVE = "ip link add d0 type dummy && ip link add s0 link d0 type ipvlan"

Argv = tuple[str, ...]

EMULATOR = "qemu-system-x86_64"
# In user mode; as it is on a machine whose own kernel has ipvlan, that of another lab; emulated.
KERNELS = {"user-mode": f"{LAB} --uml", "own": f"{LAB} {LAB}", "virtual": f"{LAB} --qemu"}


def choose_kernel(number: int, *kernels: str) -> pytest.MarkDecorator:
    """Have a test run on one of the kernels, by the seed; with --long on all."""
    names = kernels or [*KERNELS]
    if not sampling.is_long():
        names = [each for each in names if each != "virtual" or shutil.which(EMULATOR)]
        names = [names[(sampling.seed() + number) % len(names)]]
    return pytest.mark.parametrize("kernel", names, indirect=True)


@pytest.fixture
def kernel(request: pytest.FixtureRequest) -> str:
    if request.param == "virtual" and not shutil.which(EMULATOR):
        pytest.skip("without the package qemu-system-x86 there is no virtual machine")
    if request.param == "virtual" and not (CHECKOUT / "build/lab-linux").exists():
        run(LAB, "--qemu", "true")  # or the first test would see it being downloaded
    return str(request.param)


@pytest.fixture
def lab(kernel: str) -> Argv:
    return tuple(KERNELS[kernel].split())


# What is typed, what that prints, and words of a complaint.
INPUT = {
    "piped": ("head -c 300000 /dev/urandom >a; cat a | {lab} cat | cmp - a && echo is", "is\n", ""),
    "of a file": (
        "(echo first; head -c 2000000 /dev/zero) >a; (read -r _; {lab} cat) <a | wc -c",
        *("2000000\n", ""),
    ),
    "never ending": (
        "mkfifo f; sleep 99 >f 2>&1 & timeout 90 {lab} echo ended <f; kill $!",
        *("ended\n", ""),
    ),
    "endless": (f"yes | {LAB} --uml head -n 2; echo ${{PIPESTATUS[*]}}", "y\ny\n141 0\n", ""),
    "closed": (f"{LAB} --uml wc -c <&-", "0\n", ""),
    "on a hardened machine": (
        f"unshare -rm sh -c 'mount -t tmpfs -o noexec none /dev/shm; {LAB} --uml echo ended'",
        *("ended\n", ""),
    ),
    "no file": (f"{LAB} --uml sh -c 'cat; sleep 9' </; echo $?", "125\n", "could not be read"),
}


@choose_kernel(0)
@pytest.mark.parametrize("kind", INPUT)
def test_input_reaches_the_command(lab: Argv, tmp_path: Path, kind: str) -> None:
    line, printed, complaint = INPUT[kind]
    line = line.replace("{lab}", " ".join(lab))
    done = subprocess.run(
        ("bash", "-c", line), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == printed
    assert complaint in done.stderr
    assert complaint or not done.stderr


def test_input_arrives_as_it_comes() -> None:
    argv = (LAB, "--uml", "sh", "-c", "while read -r line; do echo got $line; done")
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for word in (b"one\n", b"two\n"):
            process.stdin.write(word)
            process.stdin.flush()
            assert process.stdout.readline() == b"got " + word
        process.stdin.close()
        assert process.wait(PATIENCE) == 0


@choose_kernel(0, "user-mode", "virtual")
def test_slave_can_be_made_and_writes_last_only_where_they_may(lab: Argv, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    script = f"{SLAVE} && cd {tmp_path} && echo word >kept/file && echo word >/etc/gone && exit 7"
    done = run(*lab, "--write", str(tmp_path / "kept"), "sh", "-c", script)
    assert (done.returncode, done.stderr) == (7, b"")
    assert (tmp_path / "kept/file").read_text() == "word\n"
    assert not Path("/etc/gone").exists()


def test_command_gets_nothing_of_a_terminal() -> None:
    with Terminal(LAB, "--uml", "sh", "-c", "cat; echo ended") as terminal:
        terminal.until("ended")


@pytest.mark.slow
@choose_kernel(2)
def test_shell_reads_commands_from_a_pipe(lab: Argv) -> None:
    done = run(*lab, stdin=b"ip -brief link show lo | cut -c 1-2\necho ${PATH##*:}\nexit 5\n")
    commands = os.fsencode(CHECKOUT / "build/venv/bin")
    assert (done.returncode, done.stdout) == (5, b"lo\n" + commands + b"\n")


@choose_kernel(1)
def test_without_a_command_a_shell_has_the_terminal(kernel: str) -> None:
    with Terminal("bash", "--norc") as terminal:
        if kernel == "own":
            terminal.say(f"{LAB} --uml; echo ended $?\r")
            terminal.until("(none):")
        # What runs after it, in the same process group, can read from the terminal again.
        option = " --qemu" if kernel == "virtual" else ""
        command = f"{LAB}{option}; echo status $?; read line; echo read $line"
        terminal.say(f"bash -c {shlex.quote(command)}\r")
        terminal.until("read $line")
        terminal.until('A root shell, on a kernel with ipvlan; "exit" ends both')
        terminal.until("(none):")
        terminal.say(f"{SLAVE}; echo made $?\r")
        terminal.until("made 0")
        # Not the shell's own echo: until it starts another program, ^C is for the shell itself.
        terminal.say("test -t 0 && sh -c 'echo it $((40 + 2)); exec sleep 1000'\r")
        terminal.until("it 42")
        terminal.say("\x03")
        terminal.say("echo interrupted $?\r")
        terminal.until("interrupted 130")
        terminal.say("exit 7\r")
        terminal.until("status 7")
        terminal.say("again\r")
        terminal.until("read again")
        if kernel == "own":
            terminal.say("exit\r")
            terminal.until("ended 0")
        terminal.say("exit\r")


def test_a_closed_terminal_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with Terminal(str(LAB), "--uml") as terminal:
        terminal.until("(none):")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_lab_leaves_the_next_one_removes(tmp_path: Path) -> None:
    long_ago = time.time() - 100
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    labs = [
        subprocess.Popen(
            (LAB, "--uml", "sh", "-c", "echo running; sleep 1000"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=environment,
        )
        for _ in range(2)
    ]
    for each in labs:
        assert each.stdout
        assert each.stdout.readline() == b"running\n"
    killed, running = labs
    killed.kill()
    killed.communicate(timeout=PATIENCE)  # what it had started ends, too
    older = tmp_path / "lab-kernel.123456"  # of a version that had no lock
    older.mkdir()
    for path in tmp_path.rglob("*"):
        if path.name in ("lock", older.name):
            os.utime(path, (long_ago, long_ago))

    assert subprocess.run((LAB, "--uml", "true"), env=environment, check=False).returncode == 0

    older.rmdir()
    (directory,) = tmp_path.iterdir()
    assert (directory / "variables").exists()
    running.terminate()
    running.communicate()
    assert list(tmp_path.iterdir()) == []


BENCHES: list[Argv] = [(), *[("--native",)] * (os.geteuid() == 0)]


@pytest.mark.slow
@pytest.mark.parametrize("options", BENCHES, ids=" ".join)
def test_bench_works_in_a_fresh_clone(fresh_checkout: Path, options: Argv) -> None:
    done = run(str(fresh_checkout / "scripts/bench"), "--runs", "1", *options)
    assert done.returncode == 0, done.stderr
    lines = [line.split()[:2] for line in done.stdout.decode().splitlines() if " ours " in line]
    assert lines == [[verb, "ours"] for verb in ("VERSION", "ADD", "CHECK", "DEL")]


class Terminal:
    """A terminal in which a command runs, with root's shell."""

    def __init__(self, *argv: str) -> None:
        self.fd, inside = pty.openpty()
        environment = {**os.environ, "SHELL": "/bin/bash", "TERM": "dumb"}
        self.process = subprocess.Popen(
            ("setsid", "--ctty", "--wait", *argv),
            stdin=inside,
            stdout=inside,
            stderr=inside,
            env=environment,
        )
        os.close(inside)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)
        self.process.wait(PATIENCE)

    def say(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def until(self, text: str) -> str:
        """Wait for a text in what the command prints; return all since the last one."""
        deadline = time.monotonic() + PATIENCE
        output = ""
        while text not in output:
            assert time.monotonic() < deadline, output
            if select.select([self.fd], [], [], 0.1)[0]:
                output += os.read(self.fd, 4096).decode(errors="replace")
        return output


def run(*argv: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(argv, input=stdin, capture_output=True, check=False, timeout=300)
