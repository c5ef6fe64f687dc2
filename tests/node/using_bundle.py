"""Use a bundle in a root directory, on a kernel with ipvlan, and print what came of it as JSON.

Usage: using_bundle.py ROOT

ROOT has the bundle in /opt/bundle, in /opt/cni/bin a script that runs its ipvlan, and a host-local
that needs nothing else, and leaves its PATH in /run/path; and in /busybox what becomes its /bin.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(sys.argv[1]).resolve()
BUNDLE = "/opt/bundle"
PLUGIN = "/opt/cni/bin/ipvlan"
RANGES = [[{"subnet": "10.1.1.0/24"}], [{"subnet": "fd00:1::/64"}]]
NETWORK = {
    "cniVersion": "1.0.0",
    "name": "net",
    "type": "ipvlan",
    "master": "up",
    "ipam": {"type": "host-local", "ranges": RANGES, "dataDir": "/run/leases"},
}
CALL = {
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/run/netns/c1",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": "/opt/cni/bin",
    "PATH": "/usr/sbin:/bin",
}
OPTIONS = ("-c", "/run/net.conf", "--netns", "c1", "--ifname", "eth0")
ID = ("--container-id", "c1")
SELECTION = ("scope", "global")


def main() -> None:
    """Print a document with one entry for each way of using it."""
    prepare()
    before = list_files()
    report: dict[str, object] = {"runtime": act_as_runtime()}
    (ROOT / "bin").symlink_to("busybox")
    report["person"] = act_as_user()
    report["changed"] = sorted(before ^ list_files())
    json.dump(report, sys.stdout)


def prepare() -> None:
    """Mount what a node has, and make a master and a container."""
    for directory in ("proc", "sys", "run", "dev", "tmp"):
        (ROOT / directory).mkdir(exist_ok=True)
    for words in (
        f"mount --bind {ROOT} {ROOT}",  # ip netns exec needs a root directory that is a mount
        f"mount -t proc proc {ROOT}/proc",
        f"mount -t sysfs sysfs {ROOT}/sys",
        f"mount -t tmpfs run {ROOT}/run",
        f"mount --bind /dev {ROOT}/dev",
        "ip link add name up type dummy",
        "ip link set dev up up",
    ):
        subprocess.run(words.split(), check=True)
    (ROOT / "run/netns").mkdir()
    (ROOT / "run/net.conf").write_text(json.dumps(NETWORK))
    (ROOT / "run/dhcp.conf").write_text(json.dumps({**NETWORK, "ipam": {"type": "dhcp"}}))
    run_in_root(f"{BUNDLE}/programs/ip", "netns", "add", "c1")


def act_as_runtime() -> dict[str, Any]:
    """Call each verb; return the answers, and the container's addresses after ADD."""
    version = call("VERSION")
    added = call("ADD")
    addresses = list_addresses()
    checked = call("CHECK", prevResult=json.loads(added))
    deleted = call("DEL")
    return {
        "versions": json.loads(version)["supportedVersions"],
        "addresses": [each["address"] for each in json.loads(added).get("ips", [])] or added,
        "has": addresses,
        "path of IPAM": (ROOT / "run/path").read_text().strip(),
        "printed by CHECK and DEL": checked + deleted,
        "left": list_addresses(),
    }


def act_as_user() -> dict[str, Any]:
    """Use the command line; return parts of its output."""
    ipvlan = f"{BUNDLE}/bin/ipvlan"
    doctor = run_in_root(ipvlan, "doctor", *OPTIONS)
    script = run_in_root(ipvlan, "add", *OPTIONS, *ID, "--dry-run")
    # Debian's BusyBox has an ip of its own, and its sh prefers that to any in PATH.
    run_in_root(f"{BUNDLE}/programs/sh", stdin=script)
    addresses = list_addresses()
    output = run_in_root(ipvlan, "show")
    run_in_root(ipvlan, "del", *OPTIONS, *ID)
    return {
        "doctor": doctor.splitlines(),
        # There is neither a plugin dhcp nor its daemon, but what ADD asks of tc is tried.
        "DHCP": re.findall(r".*broadcast.*", run_in_root(ipvlan, "doctor", "-c", "/run/dhcp.conf")),
        "has": addresses,
        "shown": re.findall(r"10\.1\.1\.\d+/24", output),
        "left": list_addresses(),
    }


def call(verb: str, **options: object) -> str:
    stdin = json.dumps({**NETWORK, **options})
    return run_in_root(PLUGIN, stdin=stdin, **{**CALL, "CNI_COMMAND": verb})


def list_addresses() -> list[str]:
    output = run_in_root(f"{BUNDLE}/programs/ip", "-n", "c1", "-o", "address", "show", *SELECTION)
    return re.findall(r"eth0\s+inet6? (\S+)", output)


def run_in_root(*command: str, stdin: str = "", **environment: str) -> str:
    """Run a command in the root, with nothing else in its environment; return its output."""
    done = subprocess.run(
        command,
        input=stdin,
        env=environment,
        preexec_fn=enter_root,
        check=False,
        capture_output=True,
        text=True,
    )
    if done.stderr or done.returncode:
        sys.stderr.write(f"{command}: {done}\n")
    return done.stdout


def enter_root() -> None:
    os.chroot(ROOT)
    os.chdir("/")


def list_files() -> set[tuple[str, int, int]]:
    paths = (ROOT / "opt").rglob("*")
    return {(str(each), each.lstat().st_mode, each.lstat().st_mtime_ns) for each in paths}


if __name__ == "__main__":
    main()
