"""What the kubelet asks of a runtime, through the Container Runtime Interface."""

from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import lab
from patience import patient

# Compiled now, from the directory of this module.
_messages, _services = grpc.protos_and_services("cri.proto")

_PATIENCE_SECONDS = 60.0


class Pod(NamedTuple):
    """A pod with one container, by the IDs that the runtime gave them."""

    sandbox: str
    container: str = ""


class Condition(NamedTuple):
    """One of the things that must be so before the kubelet lets pods onto a node."""

    status: bool
    reason: str


class Cri:
    """A client of the runtime that listens at ``socket``; ``image`` is that of all containers."""

    def __init__(self, socket: Path, image: str) -> None:
        channel = grpc.insecure_channel(f"unix:{socket}", [("grpc.max_reconnect_backoff_ms", 200)])
        self._runtime = _services.RuntimeServiceStub(channel)
        self._images = _services.ImageServiceStub(channel)
        self._image = image

    def wait_until_ready(self) -> None:
        """Wait until the runtime answers, and knows the image."""
        lab.wait_until(self._knows_image)

    def network_ready(self) -> Condition:
        answer = self._call("Status", _messages.StatusRequest())
        return next(
            Condition(each.status, each.reason)
            for each in answer.status.conditions
            if each.type == "NetworkReady"
        )

    def run_pod(self, name: str, attempt: int = 0) -> Pod:
        """Have a pod made; ``attempt`` counts the sandboxes that it had before."""
        config = _sandbox_config(name, attempt)
        request = _messages.RunPodSandboxRequest(config=config)
        sandbox = self._call("RunPodSandbox", request).pod_sandbox_id
        request = _messages.CreateContainerRequest(
            pod_sandbox_id=sandbox,
            config=_messages.ContainerConfig(
                metadata=_messages.ContainerMetadata(name="one", attempt=attempt),
                image=_messages.ImageSpec(image=self._image),
            ),
            sandbox_config=config,
        )
        container = self._call("CreateContainer", request).container_id
        self._call("StartContainer", _messages.StartContainerRequest(container_id=container))
        return Pod(sandbox, container)

    def address(self, pod: Pod) -> str:
        return str(self._status(pod).network.ip)

    def is_ready(self, pod: Pod) -> bool:
        return bool(self._status(pod).state == _messages.SANDBOX_READY)

    def execute(self, pod: Pod, *command: str) -> str:
        """Run a command in a pod's container; it must succeed. Return its output."""
        answer = self._call(
            "ExecSync", _messages.ExecSyncRequest(container_id=pod.container, cmd=command)
        )
        assert answer.exit_code == 0, (answer.stdout, answer.stderr)
        return str(answer.stdout.decode())

    def stop(self, pod: Pod) -> None:
        self._call("StopPodSandbox", _messages.StopPodSandboxRequest(pod_sandbox_id=pod.sandbox))

    def remove(self, pod: Pod) -> None:
        self._call(
            "RemovePodSandbox", _messages.RemovePodSandboxRequest(pod_sandbox_id=pod.sandbox)
        )

    def pods(self) -> list[Pod]:
        """Return all pods, also those that don't run, without their containers."""
        answer = self._call("ListPodSandbox", _messages.ListPodSandboxRequest())
        return [Pod(each.id) for each in answer.items]

    def _status(self, pod: Pod) -> Any:
        request = _messages.PodSandboxStatusRequest(pod_sandbox_id=pod.sandbox)
        return self._call("PodSandboxStatus", request).status

    def _call(self, name: str, request: Any) -> Any:
        """Raise grpc.RpcError if the runtime refuses."""
        return getattr(self._runtime, name)(request, timeout=patient(_PATIENCE_SECONDS))

    def _knows_image(self) -> bool:
        spec = _messages.ImageSpec(image=self._image)
        with suppress(grpc.RpcError):
            answer = self._images.ImageStatus(_messages.ImageStatusRequest(image=spec))
            return bool(answer.image.id)
        return False


def _sandbox_config(name: str, attempt: int) -> Any:
    metadata = _messages.PodSandboxMetadata(
        name=name, uid=f"uid-{name}", namespace="default", attempt=attempt
    )
    return _messages.PodSandboxConfig(metadata=metadata, linux=_messages.LinuxPodSandboxConfig())
