"""Arrays as bare addresses for the compiled loops.

numba counts references of every array that a function takes or a tuple holds, with an atomic instruction each time;
the same loops over arrays took 2.7 microseconds a fact where these take 0.3. A view here is a pointer alone. Whoever
passes an address keeps its array alive and as long as the kernel takes it for; nothing checks either.

numba does not notice a change of this file in the cache of the kernel: delete ``__pycache__/*.nb*`` after one.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"

from __future__ import annotations

import ctypes
import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model
from numpy.typing import NDArray


class _View(types.Type):
    """A pointer to items of one type; read as int64 or float64, whatever their width."""

    def __init__(self, item: types.Type, read: types.Type) -> None:
        self.item, self.read = item, read
        super().__init__(name=f"view({item})")


@register_model(_View)
class _ViewModel(models.PrimitiveModel):
    def __init__(self, manager, view) -> None:
        item = manager.lookup(view.item).get_value_type()
        super().__init__(manager, view, item.as_pointer())


def _view_at(view):
    @intrinsic
    def at(typing_context, address):  # noqa: ARG001
        def code(context, builder, signature, args):
            return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

        return view(types.int64), code

    return at


_WORDS = _View(types.int32, types.int64)
words = _view_at(_WORDS)
longs = _view_at(_View(types.int64, types.int64))
doubles = _view_at(_View(types.float64, types.float64))


@intrinsic
def _load(typing_context, view, index):  # noqa: ARG001
    def code(context, builder, signature, args):
        value = builder.load(builder.gep(args[0], [args[1]]))
        return context.cast(builder, value, signature.args[0].item, signature.return_type)

    return view.read(view, types.int64), code


@intrinsic
def _store(typing_context, view, index, value):  # noqa: ARG001
    def code(context, builder, signature, args):
        item = context.cast(builder, args[2], signature.args[2], signature.args[0].item)
        builder.store(item, builder.gep(args[0], [args[1]]))
        return context.get_dummy_value()

    return types.void(view, types.int64, view.read), code


@intrinsic
def fetch(typing_context, view, index):  # noqa: ARG001
    """Has the processor bring ``view[index]`` near while it goes on: a hint, whatever the index is."""

    def code(context, builder, signature, args):  # noqa: ARG001
        at = builder.gep(args[0], [args[1]])
        at = builder.bitcast(at, ir.IntType(8).as_pointer())
        word = ir.IntType(32)
        hint = builder.module.declare_intrinsic(
            "llvm.prefetch", [at.type], ir.FunctionType(ir.VoidType(), [at.type, word, word, word])
        )
        builder.call(hint, [at, word(0), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(view, types.int64), code


@intrinsic
def pair(typing_context, one, other):  # noqa: ARG001
    """Two words of the stack, for as long as the function runs that asks for them."""

    def code(context, builder, signature, args):  # noqa: ARG001
        word = ir.IntType(32)
        at = cgutils.alloca_once(builder, word, 2)
        for place, value in enumerate(args):
            builder.store(builder.trunc(value, word), cgutils.gep_inbounds(builder, at, place))
        return at

    return _WORDS(types.int64, types.int64), code


@overload(operator.getitem)
def _getitem(view, index):  # noqa: ARG001
    if isinstance(view, _View):
        return lambda view, index: _load(view, index)
    return None


@overload(operator.setitem)
def _setitem(view, index, value):  # noqa: ARG001
    if isinstance(view, _View):
        return lambda view, index, value: _store(view, index, value)
    return None


def address(array: NDArray[Any]) -> int:
    """Where a contiguous array lies. It must outlive every use of the number."""
    try:
        # A third of what the array's own description takes, and a small evaluation asks dozens of times.
        return ctypes.addressof(ctypes.c_char.from_buffer(array))  # type: ignore[arg-type]
    except (TypeError, ValueError):  # read-only, or of no length
        return int(array.__array_interface__["data"][0])
