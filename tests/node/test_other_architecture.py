"""A bundle and an image for another architecture, whose programs this machine runs in an emulator.

They are built and started; containers are not attached, since qemu-user does not know the ioctl(2)
that recognizes a namespace.
"""

import re
import subprocess
from pathlib import Path

import pytest
import sampling
from cloning import make_clone
from doubles import write_program
from image_layout import ARCHITECTURE, read_archive, read_blob, read_manifests
from installing import CHECKOUT, assert_serves, run

pytestmark = [
    pytest.mark.skipif(not sampling.is_long(), reason="takes two minutes, with --long"),
    pytest.mark.timeout(1200),
]

OTHER = "amd64" if ARCHITECTURE == "arm64" else "arm64"
EMULATOR, MACHINE = {"amd64": ("qemu-x86_64", r"\x3e\x00"), "arm64": ("qemu-aarch64", r"\xb7\x00")}[
    OTHER
]
# Of a file's head, which bits are compared: what it is, and for which machine (elf(5)).
HEAD = r"\x7fELF\x02\x01" + r"\x00" * 12 + MACHINE
MASK = r"\xff" * 6 + r"\x00" * 12 + r"\xff\xff"
# Names the emulator to a namespace of its own, not to the machine.
EMULATED = f"""#!/bin/sh
exec /usr/bin/unshare --user --map-root-user --mount /bin/bash -c '
    mount -t binfmt_misc none /proc/sys/fs/binfmt_misc &&
    echo ":other:M::{HEAD}:{MASK}:/usr/bin/{EMULATOR}:F" >/proc/sys/fs/binfmt_misc/register &&
    exec "$@"' bash COMMAND "$@"
"""


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Build the bundles of one commit for both architectures."""
    clone = make_clone(tmp_path_factory.mktemp("clone"))
    for each in (ARCHITECTURE, OTHER):
        subprocess.run([clone / "scripts/build-bundle", "--architecture", each], check=True)
    return [next(clone.glob(f"dist/*-{each}.tar.xz")) for each in (ARCHITECTURE, OTHER)]


def test_bundle_serves_in_an_emulator(archives: list[Path], tmp_path: Path) -> None:
    subprocess.run(["tar", "-xJf", archives[1], "-C", tmp_path], check=True)
    (bundle,) = tmp_path.iterdir()
    programs = [*bundle.glob("bin/*"), *bundle.glob("programs/*"), *bundle.glob("lib/programs/*")]
    modules = [*bundle.rglob("*.so*")]
    assert len(programs) > 20
    assert len(modules) > 20
    machine = Path("/bin/true").read_bytes()[18:20]
    assert machine not in {each.read_bytes()[18:20] for each in (*programs, *modules)}
    emulate(Path("/bin/true"), tmp_path / "true")
    if run(tmp_path / "true").returncode:
        pytest.skip("this kernel has no binfmt_misc of a user namespace's own (Linux 6.7)")
    assert_serves(emulate(bundle / "bin/ipvlan", tmp_path / "ipvlan"))
    ip = emulate(bundle / "programs/ip", tmp_path / "ip")
    assert "iproute2" in subprocess.check_output([ip, "-V"], text=True)


def emulate(command: Path, wrapper: Path) -> Path:
    return write_program(wrapper, EMULATED.replace("COMMAND", str(command)))


def test_image_is_one_index_for_both(archives: list[Path], tmp_path: Path) -> None:
    options = [f"--bundle={each}" for each in archives]
    build = CHECKOUT / "scripts/build-image"
    subprocess.run([build, f"--output={tmp_path}", *options], check=True)
    image = read_archive(next(tmp_path.iterdir()).read_bytes())
    manifests = read_manifests(image)
    assert manifests.keys() == {ARCHITECTURE, OTHER}
    heads = {}
    for architecture, manifest in manifests.items():
        files = read_archive(read_blob(image, *manifest["layers"]))
        programs = ("usr/bin/bash", "usr/lib/cni-ipvlan/bin/ipvlan")
        heads[architecture] = {files[name][18:20] for name in programs}
    assert [len(each) for each in heads.values()] == [1, 1]
    assert heads[ARCHITECTURE] != heads[OTHER]


def test_bundles_that_do_not_fit_are_refused(archives: list[Path], tmp_path: Path) -> None:
    other = tmp_path / re.sub(r"git1\.\w+", "git2.0", archives[1].name)
    other.symlink_to(archives[1])
    for bundle in (archives[0], other):
        options = [f"--bundle={each}" for each in (archives[0], bundle)]
        done = run(CHECKOUT / "scripts/build-image", f"--output={tmp_path / 'new'}", *options)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert list(tmp_path.iterdir()) == [other]
