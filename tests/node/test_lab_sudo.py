"""scripts/lab-kernel for an ordinary user without user-mode Linux, played by a lab."""

import pytest
from installing import CHECKOUT, run
from patience import extend

LAB = CHECKOUT / "scripts/lab-kernel"
MACHINE = f"""
rm -f "$(command -v linux.uml)" "$(command -v qemu-system-x86_64)" # in the lab
printf '#!/bin/sh\\n[ "$1" = show ] && exit 100\\n' >/usr/local/bin/apt-cache
chmod 755 /usr/local/bin/apt-cache
# A lab reads as little of the machine as the user who started it: not its sudoers, nor shadow.
rm /etc/sudoers /etc/pam.d/sudo
echo 'nobody ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers
echo 'account required pam_permit.so' >/etc/pam.d/sudo
nobody="setpriv --reuid nobody --regid nogroup --clear-groups"
cd /
export TMPDIR=/tmp WORD='two words'
cp -r {LAB.parent} /srv/scripts # the checkout may be in a home that nobody else can enter
chmod -R a+rX /srv/scripts
lab=/srv/scripts/lab-kernel
"""
START = "$nobody $lab sleep 1000 & until pgrep -x sleep >/dev/null; do :; done;"
GONE = " timeout 9 sh -c 'while pgrep -x sleep; do :; done' >/dev/null; pgrep -x sleep"


NONE = (
    "lab-kernel: for a kernel with ipvlan, packages are missing: "
    "sudo apt-get update && sudo apt-get install qemu-system-x86\n"
)
# Commands with their output. The last one removes from the machine what the others need.
SCRIPTS = {
    '$nobody $lab sh -c "id -u; echo \\$WORD; exit 3"; echo $?': "0\ntwo words\n3\n",
    "echo piped | $nobody $lab cat": "piped\n",
    "$nobody $lab ip link add d0 type dummy; ip link show dev d0 2>&1": (
        'Device "d0" does not exist.\n'
    ),
    "$nobody $lab --timeout 2 sleep 1000; echo $?; pgrep -x sleep": "124\n",
    f"{START} kill $!; wait $!; echo $?; pgrep -x sleep": "143\n",
    f"{START} kill -KILL $!; wait $! 2>/dev/null;{GONE}": "",
    "rm /etc/sudoers; $nobody $lab true 2>&1; echo $?": f"{NONE}125\n",
}
END = "the end of a script\n"


@pytest.mark.slow
def test_sudo_makes_namespaces_on_the_machines_own_kernel_or_one_sentence_says_why_not() -> None:
    script = MACHINE + f"\necho {END}".join(SCRIPTS)
    done = run(LAB, "--uml", "bash", "-c", script, timeout=extend(60))
    # A small machine lacks zstd as well, with which the other kernel is unpacked.
    printed = done.stdout.replace("qemu-system-x86 zstd", "qemu-system-x86").split(END)
    assert dict(zip(SCRIPTS, printed, strict=True)) == SCRIPTS, done.stderr
