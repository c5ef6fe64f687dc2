"""scripts/install-node, in temporary directories: what it installs, keeps and removes."""

import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fcntl import ioctl
from pathlib import Path
from termios import FIONREAD
from typing import Any, NamedTuple

import pytest
import sampling
from doubles import replace_program
from executable import descendants
from installing import (
    AS_ROOT,
    CHECKOUT,
    MISSING_PACKAGES,
    assert_serves,
    call_plugin,
    copy_checkout,
    installer,
    list_tree,
    make_environment,
    needs_root,
    needs_system_packages,
    path_options,
    plugin_path,
    run,
)
from lab import wait_until

pytestmark = needs_root

VERSION = {"CNI_COMMAND": "VERSION"}
OFFLINE = [*AS_ROOT, "unshare", "--net"]
OTHER_PLUGIN = "#!/bin/sh\necho 'this is another program'\n"
DEBIANS = Path("/usr/lib/cni")  # containernetworking-plugins
PIPLESS = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "SUDO_"))}
DOCUMENTS = [
    "man/man8/ipvlan.8",
    "bash-completion/completions/ipvlan",
    "fish/vendor_completions.d/ipvlan.fish",
    "zsh/site-functions/_ipvlan",
]

Done = subprocess.CompletedProcess[str]


@contextmanager
def node_at(directory: Path) -> Iterator[Path]:
    """Make a directory for a node; assert that uninstalling leaves no trace there."""
    (directory / "other").write_text("something that was here before\n")
    before = list_tree(directory)
    yield directory
    run(*AS_ROOT, installer(CHECKOUT), *path_options(directory), "--uninstall")
    if (directory / "cni").is_dir():  # made by the test
        shutil.rmtree(directory / "cni")
    assert list_tree(directory) == before, "uninstalling left something"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Path]:
    with node_at(tmp_path) as path:
        yield path


class Install:
    """Runs install-node for a node of a test, without a network."""

    def __init__(self, node: Path, quick: list[str]) -> None:
        self.node = node
        self.quick = quick

    def __call__(
        self, *options: object, checkout: Path = CHECKOUT, prefix: Sequence[str] = ()
    ) -> Done:
        argv = [*OFFLINE, *prefix, str(installer(checkout)), *path_options(self.node)]
        environment = {**PIPLESS, "PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0"}
        return run(*argv, *map(str, options), env=environment)

    def run_quickly(self, *options: object, **arguments: Any) -> Done:
        """Install in the quickest way, for tests of what is the same in each way."""
        done = self(*self.quick, *options, **arguments)
        assert done.returncode == 0, done.stderr
        return done

    def expect_error(self, words: str, *options: object, **arguments: Any) -> None:
        """Assert that install-node changes nothing, and says why in one sentence."""
        before = list_tree(self.node)
        done = self(*options, **arguments)
        assert done.returncode == 1
        assert words in one_line(done)
        assert list_tree(self.node) == before


@pytest.fixture(scope="module")
def quick(request: pytest.FixtureRequest) -> list[str]:
    if not MISSING_PACKAGES:
        return ["--system-packages"]
    return ["--wheels", str(request.getfixturevalue("wheels"))]


@pytest.fixture
def install(node: Path, quick: list[str]) -> Install:
    return Install(node, quick)


class Upgraded(NamedTuple):
    """A node with its third version, how each came there, and the answers to calls meanwhile."""

    node: Path
    install: Install
    installed: list[Done]
    answers: list[Done]


@pytest.fixture(scope="module")
def upgraded(
    tmp_path_factory: pytest.TempPathFactory, quick: list[str], wheels: Path
) -> Iterator[Upgraded]:
    private = copy_checkout(tmp_path_factory.mktemp("private"))  # as umask 077 has it
    subprocess.run(["chmod", "-R", "go=", private], check=True)
    with node_at(tmp_path_factory.mktemp("upgraded")) as node:
        install = Install(node, quick)
        result = Upgraded(node, install, [install.run_quickly()], [])
        stop = threading.Event()

        def call_until_the_end() -> None:
            while not stop.is_set():
                result.answers.append(run(plugin_path(node), env=VERSION))

        caller = threading.Thread(target=call_until_the_end)
        caller.start()
        try:
            for options, checkout in ((["--wheels", wheels], CHECKOUT), (quick, private)):
                for version in (node / "prefix/versions").iterdir():
                    os.utime(version, (0, 0))  # in which no call is running any more
                done = install(*options, checkout=checkout)
                assert (done.returncode, done.stderr) == (0, "")
                result.installed.append(done)
                assert_serves(plugin_path(node))
        finally:
            stop.set()
            caller.join()
        yield result


def test_all_packages_that_are_missing_are_named_in_one_line(node: Path, install: Install) -> None:
    without = """
        mount --bind /dev/null "$(realpath "$(command -v ip)")"
        echo 'raise ImportError' >/var/log/venv
        mount --bind /var/log/venv "$(/usr/bin/python3 -c 'import venv; print(venv.__file__)')"
        exec "$@"
    """
    done = install(prefix=["sh", "-c", without, "sh"])
    command = "apt-get update && apt-get install iproute2 python3-venv"
    message = f"install-node: packages are missing; first: {command}\n"
    assert (done.returncode, done.stderr) == (1, message)


def test_each_step_of_an_installation_is_told(upgraded: Upgraded, wheels: Path) -> None:
    node, _, (first, from_wheels, _), _ = upgraded
    assert f"copied {DEBIANS}/dhcp to {node}/cni/bin/dhcp" in first.stdout.splitlines()
    home, steps = node / "prefix/versions/2", from_wheels.stdout.splitlines()
    assert steps[0] == f"making a virtual environment in {home}"
    assert re.fullmatch(rf"installing click\S+ .*PyYAML\S+ .*into it, from {wheels}", steps[1])
    assert steps[2] == f"putting the plugin into {home}"
    assert f"to check this node: {plugin_path(node)} doctor" in steps
    newest = (node / "prefix/versions/3").rglob("*")
    assert not [each for each in newest if not each.stat().st_mode & 0o004]
    assert str(plugin_path(node)) in from_wheels.stdout
    assert "--uninstall" in from_wheels.stdout


@pytest.mark.parametrize("option", ["without wheels", "with a few of them"])
def test_packages_that_are_not_to_be_had_change_nothing(
    install: Install, wheels: Path, tmp_path_factory: pytest.TempPathFactory, option: str
) -> None:
    """The installation runs without a network."""
    if option == "without wheels":
        words = "pip reaches no package index that has them; "
        install.expect_error(f"{words}offline, use --wheels or --system-packages (see --help)\n")
    else:
        some = tmp_path_factory.mktemp("some")
        shutil.copy(next(wheels.glob("click-*.whl")), some)
        install.expect_error("jsonschema", "--wheels", some)


def test_upgrades_fail_no_call_and_keep_the_version_before(upgraded: Upgraded) -> None:
    node, install, _, calls = upgraded
    # Another directory for the same prefix is refused.
    install.expect_error("serves", *install.quick, "--bin-dir", node / "elsewhere")
    assert {path.name for path in (node / "prefix/versions").iterdir()} == {"2", "3"}
    shebang = plugin_path(node).read_text().splitlines()[0]  # starts Python directly and isolated
    assert shebang == f"#!{node}/prefix/versions/3/bin/python3 -IXutf8"
    assert len(calls) > 10
    assert [each for each in calls if each.returncode or not json.loads(each.stdout)] == []


def test_people_find_the_newest_command_manual_and_completions(upgraded: Upgraded) -> None:
    node, install, *_ = upgraded
    assert (node / "command/ipvlan").readlink() == plugin_path(node)
    assert_serves(node / "command/ipvlan")
    for file in DOCUMENTS:
        assert (node / "share" / file).readlink() == node / "prefix/versions/3/manual" / file
        assert "ipvlan" in (node / "share" / file).read_text()
    assert re.search(r"--command-dir .*\(/usr/local/bin\)", install("--help").stdout)


def test_interpreter_of_an_older_version_hands_over(upgraded: Upgraded) -> None:
    # The file may change after the kernel has read its first line.
    python = upgraded.node / "prefix/versions/2/bin/python3"
    done = run(python, "-IXutf8", plugin_path(upgraded.node), env=VERSION)
    assert json.loads(done.stdout)["supportedVersions"]


def test_version_that_does_not_answer_changes_nothing(
    node: Path, install: Install, tmp_path_factory: pytest.TempPathFactory
) -> None:
    broken = copy_checkout(tmp_path_factory.mktemp("broken"))
    (broken / "cni_ipvlan/__main__.py").write_text("raise SystemExit('broken on purpose')\n")
    for prepare in (list, install.run_quickly):  # the second time, it would be an upgrade
        prepare()
        install.expect_error("broken on purpose", *install.quick, checkout=broken)
    assert versions_answered(node)


# What may be in the plugin's place, and whether it is replaced only with --force.
BEFORE = {
    "another program": ("cp other ipvlan", True),
    "a link to another program": ("ln -s $PWD/other ipvlan", True),
    "a link to nothing": ("ln -s $PWD/gone ipvlan", True),
    "the Go plugin": (f"cp {DEBIANS}/ipvlan ipvlan", False),
    "a link to the Go plugin": (f"ln -s {DEBIANS}/ipvlan ipvlan", False),
}


@pytest.mark.parametrize("kind", BEFORE)
def test_what_was_in_its_place_comes_back(node: Path, install: Install, kind: str) -> None:
    put_other_plugin(node)
    plugin_path(node).rename(plugin_path(node).with_name("other"))
    script, needs_force = BEFORE[kind]
    subprocess.run(["sh", "-ec", script], cwd=plugin_path(node).parent, check=True)
    (node / "prefix/share/man").mkdir(parents=True)  # a prefix with nothing but directories is fine
    before = list_tree(node)
    if needs_force:
        install.expect_error("--force", *install.quick)
    for options in (["--force"] * needs_force, []):  # the upgrade of ours needs none
        install.run_quickly(*options)
    assert "1.1.0" in versions_answered(node)
    assert not plugin_path(node).is_symlink()
    assert install("--uninstall").returncode == 0
    assert list_tree(node) == before
    shutil.rmtree(node / "prefix")


@pytest.mark.parametrize(
    ("path", "mode", "words"),
    [("cni/bin", 0o555, "cannot write to"), ("cni/bin/ipvlan", 0, "cannot keep the former")],
)
def test_what_is_protected_is_named(
    node: Path, install: Install, path: str, mode: int, words: str
) -> None:
    put_other_plugin(node)
    before = list_tree(node)
    former = (node / path).stat().st_mode
    (node / path).chmod(mode)
    without = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    done = install("--system-packages", "--force", prefix=without)
    assert done.returncode == 1
    assert f"{words} " in one_line(done)
    (node / path).chmod(former)  # or only root can look, and remove it
    assert list_tree(node) == before


@needs_system_packages
@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("size=400k", "copy the plugin "),
        ("size=1200k", "compile the plugin "),
        ("ro", "write to /mnt"),
    ],
)
def test_full_or_read_only_file_system_changes_nothing(
    install: Install, option: str, words: str
) -> None:
    mounted = ("sh", "-c", f'mount -t tmpfs -o {option} tmpfs /mnt && exec "$@"', "sh")
    sentence = f"cannot {words}"
    install.expect_error(sentence, "--system-packages", "--prefix", "/mnt", prefix=mounted)


@pytest.mark.parametrize("state", ["works", "is gone"])
def test_link_to_a_command_that_pip_installed_is_replaced_for_good(
    node: Path, install: Install, wheels: Path, tmp_path_factory: pytest.TempPathFactory, state: str
) -> None:
    environment = tmp_path_factory.mktemp("opt") / "ipvlan"
    command = environment / "bin/ipvlan"
    if state == "works":
        python = make_environment(environment)
        pip = f"{python} -m pip install --no-index --find-links {wheels} cni-ipvlan"
        subprocess.run(pip.split(), check=True)
        assert_serves(command)
    inside = list_tree(environment)
    plugin_path(node).parent.mkdir(parents=True)
    linked = environment.with_name("linked")  # as pipx and uv do
    linked.symlink_to(command)
    plugin_path(node).symlink_to(linked)

    done = install.run_quickly()

    assert f"replaced the link to {command}, which" in done.stdout
    assert not plugin_path(node).is_symlink()
    assert_serves(plugin_path(node))
    assert list_tree(environment) == inside  # calls under way may need it
    install("--uninstall")
    assert not plugin_path(node).is_symlink()
    assert not plugin_path(node).exists()


def test_others_command_and_documents_stay_as_they_are(node: Path, install: Install) -> None:
    foreign_paths = [node / "command/ipvlan", node / "share" / DOCUMENTS[0]]
    for file in foreign_paths:
        file.parent.mkdir(parents=True)
        file.write_text("theirs")
    before = list_tree(node)
    expected = f"{foreign_paths[0]} is something else, so call {plugin_path(node)} instead\n"
    for _ in range(2):
        assert install.run_quickly().stderr == expected
    assert install("--uninstall").returncode == 0
    assert list_tree(node) == before
    for name in ("command", "share"):
        shutil.rmtree(node / name)


def test_unusable_places_for_people_are_reported(node: Path, install: Install) -> None:
    unusable = ("--command-dir", "/proc/self/command", "--share-dir", "/proc/self/share")
    assert install.run_quickly(*unusable).stderr == (
        "cannot put a link to the command ipvlan into /proc/self/command\n"
        "cannot put the man page and completions into /proc/self/share\n"
    )
    assert versions_answered(node)


def test_ipam_plugins_are_copied_and_renewed_unless_changed(node: Path, install: Install) -> None:
    directory = plugin_path(node).parent
    directory.mkdir(parents=True)
    (directory / "static").write_text("theirs")
    install.run_quickly()
    for name in ("dhcp", "host-local"):
        assert not (directory / name).is_symlink()
        assert (directory / name).read_bytes() == (DEBIANS / name).read_bytes()
        assert (directory / name).stat().st_mode & 0o777 == 0o755
    (directory / "dhcp").write_text("changed")

    done = install.run_quickly(prefix=with_plugins("/usr/lib/cni", "host-local", "static", "dhcp"))

    assert done.stderr == ""
    names = {each.name: each.read_text() for each in directory.iterdir() if each.name != "ipvlan"}
    assert names == {"static": "theirs", "dhcp": "changed", "host-local": "newer\n"}
    install("--uninstall")
    assert {each.name for each in directory.iterdir()} == {"static", "dhcp"}


def test_ipam_plugins_of_fedora_are_copied_and_others_named(node: Path, install: Install) -> None:
    done = install.run_quickly(prefix=with_plugins("/usr/libexec/cni", "static"))
    directory = plugin_path(node).parent
    assert (directory / "static").read_text() == "newer\n"
    assert done.stderr == (
        f"{directory} lacks the IPAM plugins host-local dhcp; if networks need them: "
        "apt-get update && apt-get install containernetworking-plugins, then run this again\n"
    )


def test_uninstall_runs_twice_and_leaves_what_came_later(node: Path, install: Install) -> None:
    install.run_quickly()
    plugin_path(node).unlink()
    plugin_path(node).write_text(OTHER_PLUGIN)
    for _ in range(2):
        assert install("--uninstall").returncode == 0
        assert plugin_path(node).read_text() == OTHER_PLUGIN


def test_logs_have_a_directory_of_roots_and_stay(node: Path, install: Install) -> None:
    script = f"""
        quick='{" ".join(install.quick)}'
        logs=/var/log/cni-ipvlan
        for log in kept ''; do
            "$@" $quick >&2
            stat -c '%a %u:%g' $logs
            [ ! "$log" ] || touch $logs/$log
            "$@" --uninstall >&2
            ls -d $logs/* $logs 2>/dev/null
            rm -rf $logs
        done
        ln -s /nowhere $logs
        "$@" $quick >&2 && readlink $logs
    """
    done = run(*AS_ROOT, "sh", "-c", script, "sh", installer(CHECKOUT), *path_options(node))
    assert done.stdout.splitlines() == [
        *("700 0:0", "/var/log/cni-ipvlan", "/var/log/cni-ipvlan/kept"),
        "700 0:0",
        "/nowhere",
    ], done.stderr


def test_uninstall_waits_for_calls_under_way(node: Path, install: Install) -> None:
    install.run_quickly()
    argv = [*AS_ROOT, str(installer(CHECKOUT)), *path_options(node), "--uninstall"]
    environment = {"CNI_COMMAND": "ADD"}
    with subprocess.Popen(
        [plugin_path(node)], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as call:
        stdin = call.stdin
        assert stdin
        os.write(stdin.fileno(), b"{")
        wait_until(lambda: ioctl(stdin, FIONREAD, bytes(4)) == bytes(4))  # it has read that
        with subprocess.Popen(argv) as removal:
            wait_until(
                lambda: not plugin_path(node).exists() and "sleep" in programs_of(removal.pid)
            )
            assert removal.poll() is None
            answer, _ = call.communicate(b"}")
    assert "CNI_CONTAINERID" in json.loads(answer)["msg"]
    assert removal.returncode == 0
    assert not (node / "prefix").exists()


def test_interrupted_installation_leaves_nothing(
    node: Path, wheels: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    temporary = tmp_path_factory.mktemp("temporary")
    before = list_tree(node)
    stages = ("versions", "versions/1/bin/pip", "versions/1/lib/python3*/site-packages/click")
    for stage in sampling.sample(stages, 1):
        with subprocess.Popen(
            [*AS_ROOT, installer(CHECKOUT), *path_options(node), "--wheels", wheels],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "TMPDIR": str(temporary)},
        ) as process:
            while not any((node / "prefix").glob(stage)):
                assert process.poll() is None
            os.killpg(process.pid, signal.SIGTERM)
            process.communicate()
        assert process.returncode == 128 + signal.SIGTERM
        assert list_tree(node) == before
        assert list_tree(temporary) == {}


@pytest.mark.parametrize("before", ["nothing", "an older version", "another program"])
def test_signal_just_after_a_file_was_renamed_leaves_the_old_or_the_new_plugin(
    node: Path, install: Install, tmp_path_factory: pytest.TempPathFactory, before: str
) -> None:
    if before == "an older version":
        install.run_quickly()
    elif before == "another program":
        put_other_plugin(node)
    entries = list_tree(node)
    path = replace_program(tmp_path_factory.mktemp("path"), "mv", '"$real" "$@"; kill -TERM $PPID')
    options = [*install.quick, *["--force"] * (before == "another program")]
    done = install(*options, prefix=("env", f"PATH={path}"))
    assert done.returncode == 128 + signal.SIGTERM
    if before == "another program":  # the first that is renamed is its copy
        assert list_tree(node) == entries
    else:
        assert versions_answered(node)
    install.run_quickly(*options[len(install.quick) :])
    assert versions_answered(node)


@pytest.mark.parametrize(
    ("program", "script"),
    [
        ("mv", "kill -KILL $PPID"),
        ("ln", '"$real" "$@"; case $* in *command/ipvlan) kill -KILL $PPID ;; esac'),
        ("mkdir", '"$real" "$@"; case $* in *share) kill -KILL $PPID ;; esac'),
    ],
)
def test_uninstalling_leaves_nothing_of_a_run_that_was_killed(
    node: Path,
    install: Install,
    tmp_path_factory: pytest.TempPathFactory,
    program: str,
    script: str,
) -> None:
    """The signal comes before the switch, or just after a link for people or its directory."""
    before = list_tree(node)
    path = replace_program(tmp_path_factory.mktemp("path"), program, script)
    done = install(*install.quick, prefix=("env", f"PATH={path}"))
    assert done.returncode == -signal.SIGKILL
    install.run_quickly()
    assert install("--uninstall").returncode == 0
    assert list_tree(node) == before


def test_what_is_not_on_the_disk_is_not_used(
    node: Path, install: Install, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """After a power cut, the installed files would be empty."""
    put_other_plugin(node)
    script = 'case $* in *"$unwritten"*) echo no room >&2; exit 1 ;; esac'
    prefix = ["env", f"PATH={replace_program(tmp_path_factory.mktemp('path'), 'sync', script)}"]
    options = ("--force", *install.quick)
    install.expect_error("to the disk: no room", *options, prefix=[*prefix, "unwritten=cni/bin"])
    done = install.run_quickly("--force", prefix=[*prefix, "unwritten=.host-local."])
    assert (
        f"cannot copy {DEBIANS}/host-local to {plugin_path(node).parent}/host-local" in done.stderr
    )
    assert not (plugin_path(node).parent / "host-local").exists()


@needs_system_packages
def test_old_system_packages(install: Install, tmp_path_factory: pytest.TempPathFactory) -> None:
    copy = copy_checkout(tmp_path_factory.mktemp("demanding"))
    text = (copy / "setup.cfg").read_text()
    (copy / "setup.cfg").write_text(text.replace("sh>=2.2", "sh>=99.1\n    nothing>=1"))
    words = "older than 99.1, python3-nothing is missing"
    install.expect_error(words, "--system-packages", checkout=copy)


def test_unusable_prefix_is_one_sentence(install: Install) -> None:
    unusable = {"/etc/passwd/x": "cannot make", "/usr": "something else"}
    for prefix, words in {**unusable, "/tmp/" + "x" * 250: "does not answer"}.items():
        install.expect_error(words, *install.quick, "--prefix", prefix)


def test_check_tells_whether_the_plugin_is_there_and_answers(node: Path, install: Install) -> None:
    install.expect_error("is not the plugin that is installed in", "--check")
    install.run_quickly()
    before = list_tree(node)
    done = install("--check")
    assert (done.returncode, done.stdout) == (0, f"{plugin_path(node)} answers\n")
    assert list_tree(node) == before
    (module,) = (node / "prefix/versions/1/lib").rglob("cni_ipvlan/suggest.py")
    source = module.read_text()
    module.write_text(f"{source}\n")
    install.expect_error("is another version", "--check")
    module.write_text(source)
    (node / "prefix/versions/1/lib").rename(node / "prefix/versions/1/gone")
    install.expect_error("does not answer VERSION: ", "--check")
    (node / "prefix/versions/1/gone").rename(node / "prefix/versions/1/lib")
    plugin_path(node).rename(node / "cni/bin/ours")
    put_other_plugin(node, exist_ok=True)
    install.expect_error("is not the plugin", "--check")
    (node / "cni/bin/ours").rename(plugin_path(node))


def put_other_plugin(node: Path, *, exist_ok: bool = False) -> None:
    plugin_path(node).parent.mkdir(parents=True, exist_ok=exist_ok)
    plugin_path(node).write_text(OTHER_PLUGIN)
    plugin_path(node).chmod(0o750)


def with_plugins(directory: str, *names: str) -> list[str]:
    """Return the start of a command to which only these plugins are there, in one directory."""
    script = f"""
        mount -t tmpfs tmpfs /usr/lib/cni
        mount -t tmpfs tmpfs /usr/libexec
        mkdir -p {directory}
        for name in {" ".join(names)}; do
            echo newer >{directory}/$name && chmod +x {directory}/$name
        done
        exec "$@"
    """
    return ["sh", "-c", script, "sh"]


def programs_of(process: int) -> set[str]:
    """Return the names of the programs that a process runs."""
    programs = set()
    for each in descendants(process):
        with suppress(FileNotFoundError, ProcessLookupError):
            programs.add(Path(f"/proc/{each}/comm").read_text().strip())
    return programs


def versions_answered(node: Path) -> list[str]:
    versions: list[str] = call_plugin(plugin_path(node), "", "/", VERSION)["supportedVersions"]
    return versions


def one_line(done: Done) -> str:
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("install-node: ")
    return done.stderr
