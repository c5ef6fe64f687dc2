"""cni.delegate: finding plugins in CNI_PATH, and parsing their output."""

import json
import subprocess
from pathlib import Path

import pytest

from cni_ipvlan.cni import delegate, errors
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.cni.result import Address, Result


def plugin(directory: Path, name: str, mode: int = 0o755) -> str:
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return str(path)


def find_failure(status: int, stdout: bytes, stderr: bytes) -> CniError:
    with pytest.raises(CniError) as excinfo:
        delegate.check("host-local", status, stdout, stderr)
    return excinfo.value


def test_first_directory_that_has_an_executable_counts(tmp_path: Path) -> None:
    path = tuple(str(tmp_path / name) for name in ("one", "two", "three", "four"))
    plugin(tmp_path / "one", "host-local", 0o644)
    (tmp_path / "two" / "host-local").mkdir(parents=True)
    expected = plugin(tmp_path / "four", "host-local")
    assert delegate.find("host-local", path) == expected
    nearer = plugin(tmp_path / "three", "host-local")
    assert delegate.find("host-local", path) == nearer


def test_name_that_leaves_cni_path_is_an_invalid_configuration(tmp_path: Path) -> None:
    for name in ("", ".", "..", "../evil", "/bin/sh", "a\0b"):
        with pytest.raises(CniError) as excinfo:
            delegate.find(name, (str(tmp_path),))
        assert excinfo.value.code == errors.INVALID_CONFIGURATION
        assert repr(name) in excinfo.value.msg


@pytest.fixture(autouse=True)
def root_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Root's list of permitted types, which does not exist yet."""
    monkeypatch.setattr(delegate, "PERMITTED", str(tmp_path / "ipam-types"))
    return tmp_path / "ipam-types"


def find_refusal(plugin: str, *path: Path) -> str:
    with pytest.raises(delegate.NotPermittedError) as excinfo:
        delegate.find(plugin, tuple(map(str, path)))
    assert excinfo.value.code == errors.INVALID_CONFIGURATION
    return excinfo.value.msg


def test_interface_plugins_are_not_permitted(tmp_path: Path) -> None:
    for name in delegate.INTERFACE_PLUGINS:
        message = f"ipam.type is {name!r}, which is not an IPAM plugin; "
        assert find_refusal(name, tmp_path).startswith(message)  # also if it is not there
        plugin(tmp_path, name)
        assert find_refusal(name, tmp_path).startswith(message)


def test_interface_plugin_is_recognized_under_another_name(tmp_path: Path) -> None:
    directory, here, other = (tmp_path / name for name in ("elsewhere", "here", "other"))
    here.mkdir()
    program = Path(plugin(directory, "bridge"))
    (here / "link").symlink_to(program)
    (here / "copy").write_bytes(program.read_bytes())
    (here / "copy").chmod(0o755)
    (here / "hard").hardlink_to(program)
    (other / "vlan").mkdir(parents=True)  # no plugin, although called so
    assert "which is the plugin 'bridge' and not an IPAM plugin" in find_refusal("link", here)
    for name in ("copy", "hard"):
        assert delegate.find(name, (str(here),))  # of what, nobody can know
        assert "the plugin 'bridge'" in find_refusal(name, here, other, directory)


def test_one_executable_for_all_plugins_is_permitted_by_the_names_of_ipam(tmp_path: Path) -> None:
    Path(plugin(tmp_path, "bridge")).rename(tmp_path / "cni")
    for name in ("bridge", "host-local", "static", "dhcp"):
        (tmp_path / name).symlink_to("cni")
    for name in ("host-local", "static", "dhcp"):
        assert delegate.find(name, (str(tmp_path),)) == str(tmp_path / name)
    assert "the plugin 'bridge'" in find_refusal("cni", tmp_path)
    other = Path(plugin(tmp_path, "whereabouts"))  # of the same size
    other.write_text("#!/bin/ls\n")
    assert delegate.find("whereabouts", (str(tmp_path),)) == str(other)


def test_roots_list_alone_permits(tmp_path: Path, root_list: Path) -> None:
    for name in ("bridge", "static", "mine"):
        plugin(tmp_path, name)
    root_list.write_text("# these\n bridge  # here\n\nmine\n")
    for name in ("bridge", "mine"):
        assert delegate.find(name, (str(tmp_path),)) == str(tmp_path / name)
    assert "which is not an IPAM plugin that root has listed" in find_refusal("static", tmp_path)
    root_list.write_text("")
    find_refusal("mine", tmp_path)


@pytest.mark.parametrize(
    "obstacle",
    ["echo static >L && chmod 664 L", "mkdir L", "mkfifo -m 622 L", "touch D && ln -s D/x L"],
)
def test_an_untrusted_list_is_an_error(obstacle: str, tmp_path: Path, root_list: Path) -> None:
    subprocess.run(["sh", "-c", obstacle.replace("L", root_list.name)], cwd=tmp_path, check=True)
    with pytest.raises(CniError, match="ipam-types") as excinfo:
        delegate.find("static", (str(tmp_path),))
    assert excinfo.value.code == errors.INVALID_CONFIGURATION
    assert not isinstance(excinfo.value, delegate.NotPermittedError)


def test_error_document_is_passed_on() -> None:
    for document, code, msg, details in (
        ({"code": 11, "msg": "full", "details": "10.0.0.0/8"}, 11, "full", "10.0.0.0/8"),
        ({"code": 2**32 - 1, "msg": "no", "details": None}, 2**32 - 1, "no", ""),
        *(({"code": none, "msg": "x"}, errors.DELEGATE_FAILED, "x", "") for none in (0, -1, 2**32)),
    ):
        output = json.dumps(document).encode(), b"noise"
        error = find_failure(1, *output)
        assert (error.code, error.msg, error.details) == (code, msg, details)
        with pytest.raises(CniError, match=msg):
            delegate.result("p", "1.0.0", 1, *output)
        delegate.check("p", 0, *output)  # is success, whatever it printed


@pytest.mark.parametrize(
    "stdout",
    [
        *(b"", b"[]", b"\xff", b"[" * 100_000),
        *(b'{"code": "7"}', b'{"code": true}', b'{"code": 1.5}', b'{"code": 7, "msg": NaN}'),
        *(b'{"code": 7}', b'{"code": 7, "msg": null}', b'{"code": 7, "msg": ""}'),
    ],
)
def test_failure_without_an_error_document_quotes_what_was_printed(stdout: bytes) -> None:
    error = find_failure(3, stdout, b"it hurts")
    assert error.code == errors.DELEGATE_FAILED
    assert error.msg == "the plugin 'host-local' exited with status 3 and printed no CNI error"
    assert "its stderr: it hurts" in error.details
    quoted = stdout.decode("utf-8", "replace")[:100]
    assert (f"its stdout: {quoted}" if quoted else "its stdout was empty") in error.details
    assert len(error.details) < 500
    error = find_failure(-9, stdout, b"")
    assert error.code == errors.DELEGATE_FAILED
    assert error.msg == "the plugin 'host-local' was killed by SIGKILL and printed no CNI error"
    *_, stderr = find_failure(1, stdout, b"y" * 201).details.splitlines()
    assert stderr == f"its stderr: {'y' * 100} … 1 characters left out … {'y' * 100}"


def test_result_is_read_in_the_version_it_names_or_else_the_requests() -> None:
    by_family = b'{"ip4": {"ip": "10.0.0.1/8"}}'
    expected = Result(addresses=(Address("10.0.0.1/8"),))
    assert delegate.result("p", "0.2.0", 0, by_family, b"") == expected
    with_version = b'{"cniVersion": "0.2.0", "ip4": {"ip": "10.0.0.1/8"}}'
    for stdout in (with_version, b"\xef\xbb\xbf" + with_version):  # with a byte order mark
        assert delegate.result("p", "1.1.0", 0, stdout, b"") == expected


def test_bad_result_is_blamed_on_the_delegate() -> None:
    for stdout, message in (
        (b"", "printed no JSON result"),
        (b"\xff", "printed no JSON result"),
        (b'{"dns": {"x": 1e999}}', "printed no JSON result"),
        (b"[" * 100_000, "printed no JSON result"),
        (b"[]", "printed an invalid result: cannot decode the result: it is not a JSON object"),
        (b'{"ips": [{"address": "x/1"}]}', 'ips[].address is "x/1"; an address with'),
        (b'{"cniVersion": "7.0.0"}', 'cniVersion "7.0.0" is not supported'),
    ):
        with pytest.raises(CniError) as excinfo:
            delegate.result("static", "1.0.0", 0, stdout, b"")
        assert excinfo.value.code == errors.DELEGATE_FAILED
        assert excinfo.value.msg.startswith("the plugin 'static' ")
        assert message in excinfo.value.msg
