"""A vectorised step as a flat list of operators, recorded once and played again at every step.

Under vmap and autograd most of the time of a small model's step goes to finding out, again and again, which
operators to call. Their order does not depend on values there, so it is recorded once (`torch.fx`), forward and
backward together, and what comes out the same at every step is left out of what is played:

- what no input has a say in (presence where all are present, positions, one-hot codes) is computed once;
- a choice or an "and" whose condition is True everywhere is what it lets through;
- a view of the same shape, and times, by and to the power of one, are what they are given;
- what is computed twice from the same is computed once;
- the check for NaN and infinity in features: a loss that is not finite tells as much to whoever looks at it.

Running statistics, which are written in place, keep their order of reading and writing.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from concordant.errors import ConcordantError

Key = tuple[Any, ...]
_MADE_LIKE = {"zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full"}
_SAME = {"detach", "alias"}  # all they do is for autograd
_RESHAPED = {"view", "expand", "_unsafe_view", "slice", "permute", "transpose"}
_WITH_ONE = {"mul", "div", "pow"}  # times, by and to the power of one


def capture(function: Callable[..., Any], *example: Any) -> Callable[..., Any]:  # noqa: ANN401 - nested inputs
    """Return a function that does what `function` does, on inputs of the same shapes.

    Args:
        function: of nested dictionaries and lists of tensors; no Python code in it may depend on their values.
        example: its inputs; those that it writes to are written to.

    Raises:
        ConcordantError: the function looks at the values of tensors.
    """
    flat, _ = tree_flatten(example)
    tape = _Tape(flat)
    with tape:
        found = function(*example)
    results, shape = tree_flatten(found)
    tape.graph.output([tape.node_of(one) for one in results])
    played = _simplified(tape)

    def play(*inputs: Any) -> Any:  # noqa: ANN401
        return tree_unflatten(played(*tree_flatten(inputs)[0]), shape)

    return play


class _Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Write down the operators that are called, below autograd and vmap, with what they are called on.

    Args:
        inputs: the tensors that a played graph is given.

    Attributes:
        graph: what was called.
        values: node -> the tensor that came out.
        held: tensors that were there before, by the name under which the graph asks for them.
    """

    def __init__(self, inputs: list[Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.graph = fx.Graph()
        self.values: dict[fx.Node, Tensor] = {}
        self.held: dict[str, Tensor] = {}
        self._nodes: dict[int, fx.Node] = {}
        self._alive: list[Tensor] = []
        for place, one in enumerate(inputs):
            self._bind(self.graph.placeholder(f"input_{place}"), one)

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - an operator
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Call an operator and write it down."""
        named = dict(kwargs or {})
        if func is torch.ops.concordant.require_finite.default:
            # What is not finite is one seed's trouble and no other's; its loss tells.
            unchecked = args[1].clone()
            self._bind(self.node_of(args[1]), unchecked)
            return unchecked
        out = func(*args, **named)
        if isinstance(out, (bool, int, float, complex)) and any(
            isinstance(one, Tensor) for one in tree_flatten((args, named))[0]
        ):
            raise ConcordantError(f"{func} looks at the values of tensors")
        if not isinstance(out, (Tensor, tuple, list, type(None))):  # of types alone, known by now
            return out
        on = tree_map(self.node_of, args), tree_map(self.node_of, named)
        node = self.graph.call_function(func, *on)
        if isinstance(out, Tensor):
            self._bind(node, out)
        elif isinstance(out, (tuple, list)):
            for place, one in enumerate(out):
                if isinstance(one, Tensor):
                    self._bind(self.graph.call_function(operator.getitem, (node, place)), one)
        return out

    def node_of(self, value: Any) -> Any:  # noqa: ANN401
        """Return the node that a tensor came out of; anything else as it is."""
        if not isinstance(value, Tensor):
            return value
        if id(value) not in self._nodes:
            name = f"held_{len(self.held)}"
            self.held[name] = value
            self._bind(self.graph.get_attr(name, type_expr=None), value)
        return self._nodes[id(value)]

    def _bind(self, node: fx.Node, value: Tensor) -> None:
        # The tensor stays alive with the tape, even where its node gets another, so that none is known by its number.
        self._alive.append(value)
        self._nodes[id(value)], self.values[node] = node, value


class _Known:
    """What a tape tells: the values of what is constant, and shape, type and layout of everything."""

    def __init__(self, tape: _Tape, constant: set[fx.Node]) -> None:
        self.values = {node: value for node, value in tape.values.items() if node in constant}
        self.forms: dict[fx.Node, Key] = {
            node: (tuple(value.shape), value.dtype, value.stride()) for node, value in tape.values.items()
        }


def _simplified(tape: _Tape) -> Callable[..., Any]:
    graph = tape.graph
    module = nn.Module()
    for name, value in tape.held.items():
        module.register_buffer(name, value, persistent=False)
    roots = _roots(graph)
    written = {roots[node.args[0]] for node in graph.nodes if _writes(node)}
    known = _Known(tape, _constant(graph, roots, written))
    _fold(module, graph, known)
    _shorten(graph, known)
    _merge(graph, roots, written)
    _remove_unused(graph)
    return fx.GraphModule(module, graph)


def _schema(node: fx.Node) -> Any:  # noqa: ANN401 - PyTorch's
    return node.target._schema if node.op == "call_function" and isinstance(node.target, OpOverload) else None


def _name(node: fx.Node) -> str:
    """Return the name of a node's operator without its overload: "mul"."""
    return node.target._opname if isinstance(node.target, OpOverload) else ""


def _writes(node: fx.Node) -> bool:
    schema = _schema(node)
    return schema is not None and bool(schema.is_mutable)


def _roots(graph: fx.Graph) -> dict[fx.Node, fx.Node]:
    """Return node -> the node whose memory it may share: of a view what it looks at."""
    roots: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        schema = _schema(node)
        shares = schema is not None and any(one.alias_info is not None for one in schema.returns)
        shares = shares or node.target is operator.getitem
        first = next(iter(node.all_input_nodes), None)
        roots[node] = roots[first] if shares and first is not None else node
    return roots


def _constant(graph: fx.Graph, roots: dict[fx.Node, fx.Node], written: set[fx.Node]) -> set[fx.Node]:
    """Return the nodes whose values no input has a say in."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        if roots[node] in written or _writes(node):
            continue
        schema = _schema(node)
        pure = schema is not None and torch.Tag.nondeterministic_seeded not in node.target.tags
        made = pure and _name(node) in _MADE_LIKE
        if node.op == "get_attr" or made or (pure and all(one in found for one in node.all_input_nodes)):
            found.add(node)
    return found


def _fold(module: nn.Module, graph: fx.Graph, known: _Known) -> None:
    """Put values in the place of constants that something else uses."""
    number = 0
    for node in list(graph.nodes):
        if node.op != "call_function" or node not in known.values:
            continue
        if all(user in known.values for user in node.users):
            continue
        name = f"known_{number}"
        number += 1
        module.register_buffer(name, known.values[node].clone(), persistent=False)
        with graph.inserting_before(node):
            held = graph.get_attr(name)
        known.values[held], known.forms[held] = known.values[node], known.forms[node]
        node.replace_all_uses_with(held, delete_user_cb=lambda user: user not in known.values)


def _shorten(graph: fx.Graph, known: _Known) -> None:
    """Leave out operators that return what they are given."""
    for node in graph.nodes:
        kept = _passed(node, known)
        if kept is not None:
            node.replace_all_uses_with(kept)


def _passed(node: fx.Node, known: _Known) -> fx.Node | None:
    """Return which of its inputs a node returns as it is, if it does."""
    name, inputs = _name(node), node.args
    kept: Any = None
    with_one = name in _WITH_ONE and not isinstance(inputs[1], fx.Node) and inputs[1] == 1
    if name in _SAME or name in _RESHAPED or with_one:
        kept = inputs[0]
    elif name == "where" and len(inputs) == 3 and inputs[0] in known.values:
        condition = known.values[inputs[0]]  # type: ignore[index]
        kept = inputs[1] if bool(condition.all()) else None if bool(condition.any()) else inputs[2]
    elif name == "bitwise_and" and all(isinstance(one, fx.Node) for one in inputs):
        for one, other in (inputs, inputs[::-1]):
            value = known.values.get(one)  # type: ignore[arg-type]
            if value is not None and value.dtype == torch.bool and bool(value.all()):
                kept = other
    if not isinstance(kept, fx.Node) or kept not in known.forms or node not in known.forms:
        return None
    return kept if known.forms[kept] == known.forms[node] else None


def _merge(graph: fx.Graph, roots: dict[fx.Node, fx.Node], written: set[fx.Node]) -> None:
    """Compute once what is computed twice from the same; what is written to in between is left alone."""
    seen: dict[Key, fx.Node] = {}
    for node in graph.nodes:
        schema = _schema(node)
        if schema is None or schema.is_mutable or torch.Tag.nondeterministic_seeded in node.target.tags:
            continue
        if any(roots.get(one, one) in written for one in node.all_input_nodes):
            continue
        key = (node.target, _frozen(node.args), _frozen(node.kwargs))
        if key in seen:
            node.replace_all_uses_with(seen[key])
        else:
            seen[key] = node


def _frozen(value: Any) -> Any:  # noqa: ANN401 - an argument of any operator
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(one) for one in value)
    if isinstance(value, dict):
        return tuple(sorted((name, _frozen(one)) for name, one in value.items()))
    return (type(value), value)  # 1, 1.0 and True are equal and are not the same


def _remove_unused(graph: fx.Graph) -> None:
    """Remove what nothing uses and nothing is written by."""
    for node in reversed(list(graph.nodes)):
        if node.op in ("call_function", "get_attr") and not node.users and not _writes(node):
            graph.erase_node(node)
