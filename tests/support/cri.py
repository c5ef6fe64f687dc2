"""What the kubelet asks of a runtime, through the Container Runtime Interface."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import lab
from google.protobuf import descriptor_pb2, message_factory
from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.exceptions import GRPCError
from patience import extend

# k8s.io/cri-api, pkg/apis/runtime/v1/api.proto, as far as the tests use it: messages, each with
# the number, kind and name of its fields. An enum goes over the wire as an int32 does.
_PACKAGE = "runtime.v1"
_MESSAGES = """
PodSandboxMetadata, 1 string name, 2 string uid, 3 string namespace, 4 uint32 attempt
PodSandboxConfig, 1 PodSandboxMetadata metadata, 8 LinuxPodSandboxConfig linux
LinuxPodSandboxConfig
RunPodSandboxRequest, 1 PodSandboxConfig config; RunPodSandboxResponse, 1 string pod_sandbox_id
StopPodSandboxRequest, 1 string pod_sandbox_id; StopPodSandboxResponse
RemovePodSandboxRequest, 1 string pod_sandbox_id; RemovePodSandboxResponse
PodSandboxStatusRequest, 1 string pod_sandbox_id
PodSandboxStatusResponse, 1 PodSandboxStatus status
PodSandboxStatus, 3 int32 state, 5 PodSandboxNetworkStatus network
PodSandboxNetworkStatus, 1 string ip
ListPodSandboxRequest; ListPodSandboxResponse, 1 PodSandbox* items
PodSandbox, 1 string id
ImageSpec, 1 string image
ContainerMetadata, 1 string name, 2 uint32 attempt
ContainerConfig, 1 ContainerMetadata metadata, 2 ImageSpec image
CreateContainerRequest, 1 string pod_sandbox_id, 2 ContainerConfig config, \
    3 PodSandboxConfig sandbox_config
CreateContainerResponse, 1 string container_id
StartContainerRequest, 1 string container_id; StartContainerResponse
ExecSyncRequest, 1 string container_id, 2 string* cmd, 3 int64 timeout
ExecSyncResponse, 1 bytes stdout, 2 bytes stderr, 3 int32 exit_code
ImageStatusRequest, 1 ImageSpec image; ImageStatusResponse, 1 Image image
Image, 1 string id
"""


def _build_file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="cri.proto", package=_PACKAGE, syntax="proto3")
    for text in _MESSAGES.replace("\n", ";").strip(";").split(";"):
        name, *fields = text.split(",")
        message = file.message_type.add(name=name.strip())
        for number, kind, field in map(str.split, fields):
            label = 3 if kind.endswith("*") else 1  # of several, or one that may be absent
            added = message.field.add(name=field, number=int(number), label=label)
            if kind[0].isupper():
                added.type_name = f".{_PACKAGE}.{kind.rstrip('*')}"
            else:
                added.type = added.Type.Value(f"TYPE_{kind.rstrip('*').upper()}")
    return file


_TYPES = message_factory.GetMessages([_build_file()])

_PATIENCE_SECONDS = 60.0
_SANDBOX_READY = 0  # of the enum PodSandboxState


class Pod(NamedTuple):
    """A pod with one container, by the IDs that the runtime gave them."""

    sandbox: str
    container: str = ""


class Cri:
    """A client of the runtime that listens at ``socket``; ``image`` is that of all containers."""

    def __init__(self, socket: Path, image: str) -> None:
        self._socket = str(socket)
        self._image = image

    def wait_until_ready(self) -> None:
        lab.wait_until(self._knows_image)

    def run_pod(self, name: str, attempt: int = 0) -> Pod:
        """Have a pod made; ``attempt`` counts the sandboxes that it had before."""
        metadata = {"name": name, "uid": f"uid-{name}", "namespace": "default", "attempt": attempt}
        config = {"metadata": metadata, "linux": {}}
        sandbox = self._call("RunPodSandbox", config=config).pod_sandbox_id
        about_one = {"metadata": {"name": "one", "attempt": attempt}}
        container = self._call(
            "CreateContainer",
            pod_sandbox_id=sandbox,
            config={**about_one, "image": {"image": self._image}},
            sandbox_config=config,
        ).container_id
        self._call("StartContainer", container_id=container)
        return Pod(sandbox, container)

    def address(self, pod: Pod) -> str:
        return str(self._status(pod).network.ip)

    def is_ready(self, pod: Pod) -> bool:
        return bool(self._status(pod).state == _SANDBOX_READY)

    def execute(self, pod: Pod, *command: str) -> str:
        answer = self._call("ExecSync", container_id=pod.container, cmd=command)
        assert answer.exit_code == 0, (answer.stdout, answer.stderr)
        return str(answer.stdout.decode())

    def stop(self, pod: Pod) -> None:
        self._call("StopPodSandbox", pod_sandbox_id=pod.sandbox)

    def remove(self, pod: Pod) -> None:
        self._call("RemovePodSandbox", pod_sandbox_id=pod.sandbox)

    def pods(self) -> list[Pod]:
        return [Pod(each.id) for each in self._call("ListPodSandbox").items]

    def _status(self, pod: Pod) -> Any:
        return self._call("PodSandboxStatus", pod_sandbox_id=pod.sandbox).status

    def _knows_image(self) -> bool:
        with suppress(GRPCError, OSError):
            answer = self._call("ImageStatus", "ImageService", image={"image": self._image})
            return bool(answer.image.id)
        return False

    def _call(self, method: str, service: str = "RuntimeService", **request: Any) -> Any:
        """Return the answer to a request; raises GRPCError if the runtime refuses."""
        question, answer = (_TYPES[f"{_PACKAGE}.{method}{end}"] for end in ("Request", "Response"))

        async def ask() -> Any:
            async with Channel(path=self._socket) as channel:
                path = f"/{_PACKAGE}.{service}/{method}"
                call = UnaryUnaryMethod(channel, path, question, answer)
                return await call(question(**request), timeout=extend(_PATIENCE_SECONDS))

        return asyncio.run(ask())
