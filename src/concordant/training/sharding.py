"""A model whose parameters lie in pieces, one in each process (FSDP, in PyTorch's second form of it).

Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models", SC 2020. Each encoder, the
calibrator and the fusion are gathered when they are at work, and given up again afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


def shard(step: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Shard the model of a training step over the processes; what Fabric calls.

    Args:
        step: a module with the attribute `model`, a `MultimodalModel`.
        mesh: of all processes.
    """
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    model: Any = step.model
    for part in (*model.encoders.values(), model.calibrator, model.fusion):
        if any(True for _ in part.parameters()):
            fully_shard(part, mesh=mesh["data_parallel"])
    for name in ("encode", "join"):  # what is called of a fusion, which has no forward
        register_fsdp_forward_method(model.fusion, name)
    fully_shard(model, mesh=mesh["data_parallel"])
    return step


def whole_state(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's state, put together where it lies in pieces; every process must call it then."""
    return {name: whole(value) for name, value in module.state_dict().items()}


def whole_tree(state: Any) -> Any:  # noqa: ANN401 - whatever a state dictionary holds
    """Return dictionaries, lists and tensors with every tensor as a whole."""
    if isinstance(state, Mapping):
        return {key: whole_tree(value) for key, value in state.items()}
    if isinstance(state, list):
        return [whole_tree(value) for value in state]
    return whole(state) if isinstance(state, Tensor) else state


def whole(value: Tensor) -> Tensor:
    """Return a tensor that may lie in pieces as a whole."""
    if type(value) is Tensor:
        return value
    from torch.distributed.tensor import DTensor

    return value.full_tensor() if isinstance(value, DTensor) else value


def in_pieces(value: Tensor, like: Tensor) -> Tensor:
    """Return a whole tensor as `like` lies: in pieces, or whole as well."""
    if type(like) in (Tensor, nn.Parameter):
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(like, DTensor):
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
