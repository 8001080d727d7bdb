"""CUDA graphs of a step and of what it draws: a GPU is told once what all operators are, and then starts them itself.

Of a small model the operators compute for less time than the host takes to start them, one by one. What a graph
reads and writes lies where it lay when it was recorded, so batches are copied there first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from concordant.errors import ConcordantError


def graphed(
    play: Callable[..., Any],
    steady: Any,  # noqa: ANN401 - nested tensors
    written: Mapping[str, Tensor],
    batch: Any,  # noqa: ANN401 - nested tensors
) -> Callable[[Any], Any]:
    """Return a function of a batch that does what `play(steady, written, batch)` does; results are overwritten by it.

    Args:
        play: of nested tensors on one CUDA device; it looks at no values and allocates what it returns.
        steady: tensors that stay where they are from call to call.
        written: the same, and written to.
        batch: an example; of other calls it is copied.

    Raises:
        ConcordantError: CUDA cannot record it.
    """
    place: Any = tree_map(torch.clone, batch)
    before = {name: value.clone() for name, value in written.items()}
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.inference_mode():
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):  # once as it is: libraries make their workspaces at the first call
                play(steady, written, place)
            torch.cuda.current_stream().wait_stream(side)
            for name, value in before.items():
                written[name].copy_(value)
            with torch.cuda.graph(graph):
                found = play(steady, written, place)
    except RuntimeError as error:
        raise _refused(error) from None
    into = tree_flatten(place)[0]

    def replay(batch: Any) -> Any:  # noqa: ANN401
        for kept, new in zip(into, tree_flatten(batch)[0], strict=True):
            kept.copy_(new)
        graph.replay()
        return found

    return replay


def drawn(
    draw: Callable[[], None], implicit: torch.Generator, explicit: torch.Generator, stream: torch.Generator
) -> Callable[[], None]:
    """Return a function that does what `draw` does, with the device's own stream in the state of another generator.

    Args:
        draw: draws from the device's own stream and from `explicit`, into tensors that stay where they are.
        implicit: in whose state the device's stream is meanwhile, and which goes on from there.
        explicit: draws itself.
        stream: the device's own generator.

    Raises:
        ConcordantError: CUDA cannot record it.
    """
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(explicit)
    states = [(one, one.get_state()) for one in (stream, explicit)]
    try:
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            draw()  # once as it is: kernels are loaded at their first call
            for one, state in states:
                one.set_state(state)
            graph.capture_begin()
            try:
                draw()
            finally:
                graph.capture_end()
        torch.cuda.current_stream().wait_stream(side)
    except RuntimeError as error:
        raise _refused(error) from None

    def replay() -> None:
        before = stream.get_state()
        stream.set_state(implicit.get_state())
        try:
            graph.replay()
        finally:
            implicit.set_state(stream.get_state())
            stream.set_state(before)

    return replay


def _refused(error: RuntimeError) -> ConcordantError:
    said = str(error).strip().splitlines()[0].rstrip(".")
    return ConcordantError(f"CUDA cannot record a step as a graph ({said})")
