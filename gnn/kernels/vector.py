"""Short vectors as values inside numba functions: a row of a table stays in registers while its neighbours are added.

numba's own loops over a row keep the sum in memory and check for aliases. Here a row of `width` numbers is one LLVM
vector, which the back end spreads over as many registers as the processor needs (64 floats: 8 of AVX2, 4 of AVX-512),
and the rows to come are prefetched. No compiler is needed beside numba's own LLVM.

`width` and `like` must be constants where a function is compiled: a number, and a `np.float32(0)` or `np.float64(0)`
that says the type, in the closure of the jitted function. Addresses are integers, `tensor.data_ptr()`.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, register_model

BF16_BYTES = 2
_BYTE_POINTER = ir.IntType(8).as_pointer()
_INT = ir.IntType(32)
_PREFETCH = ir.FunctionType(ir.VoidType(), [_BYTE_POINTER, _INT, _INT, _INT])
_LN_2 = Fraction("0.693147180559945309417232121458176568")
# bits, those of the mantissa, bias of the exponent, bits of the upper part of ln 2, terms, |2a| where the result is 1
_TANH = {
    types.float32: (32, 23, 127, 16, 8, 20.0),
    types.float64: (64, 52, 1023, 32, 14, 40.0),
}
_ELEMENTS = {types.float32: (ir.FloatType(), 4, "f32"), types.float64: (ir.DoubleType(), 8, "f64")}


class Vector(types.Type):
    """`width` numbers of one type in registers."""

    def __init__(self, element: types.Type, width: int) -> None:
        self.element, self.width = element, width
        super().__init__(name=f"Vector({element}, {width})")

    @property
    def llvm(self) -> ir.VectorType:
        """The type in LLVM."""
        return ir.VectorType(_ELEMENTS[self.element][0], self.width)

    @property
    def alignment(self) -> int:
        """Bytes of one number: rows need not be aligned to more."""
        return _ELEMENTS[self.element][1]


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, fe_type: Vector) -> None:
        super().__init__(manager, fe_type, fe_type.llvm)


def _vector(width: Any, like: Any) -> Vector:
    return Vector(like, width.literal_value)


def _splat(builder: ir.IRBuilder, value: ir.Value, width: int) -> ir.Value:
    kind = ir.VectorType(value.type, width)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_INT, 0))
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), _places([0] * width))


def _places(values: Sequence[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(_INT, len(values)), list(values))


def _call(builder: ir.IRBuilder, name: str, kind: Vector, *args: ir.Value) -> ir.Value:
    """Call an LLVM intrinsic that maps vectors of one type to a vector of it."""
    function_type = ir.FunctionType(kind.llvm, [kind.llvm] * len(args))
    full_name = f"llvm.{name}.v{kind.width}{_ELEMENTS[kind.element][2]}"
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, full_name), args)


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def zeros(typingctx: Any, width: Any, like: Any) -> Any:
    """Make a vector of zeros."""
    kind = _vector(width, like)
    return kind(width, like), lambda context, builder, signature, args: ir.Constant(kind.llvm, None)


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def load(typingctx: Any, address: Any, width: Any, like: Any) -> Any:
    """Read `width` numbers at an address."""
    kind = _vector(width, like)

    def build(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return builder.load(builder.inttoptr(args[0], kind.llvm.as_pointer()), align=kind.alignment)

    return kind(types.int64, width, like), build


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def load_bf16(typingctx: Any, address: Any, width: Any, like: Any) -> Any:
    """Read `width` bfloat16 at an address: each is the upper half of a float32."""
    kind = _vector(width, like)

    def build(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        pointer = builder.inttoptr(args[0], ir.VectorType(ir.IntType(16), kind.width).as_pointer())
        words = builder.zext(builder.load(pointer, align=BF16_BYTES), ir.VectorType(_INT, kind.width))
        shifted = builder.shl(words, ir.Constant(words.type, [16] * kind.width))
        numbers = builder.bitcast(shifted, ir.VectorType(ir.FloatType(), kind.width))
        return numbers if like == types.float32 else builder.fpext(numbers, kind.llvm)

    return kind(types.int64, width, like), build


@intrinsic  # type: ignore[untyped-decorator]
def store(typingctx: Any, address: Any, value: Any) -> Any:
    """Write a vector as it is."""

    def build(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        builder.store(args[1], builder.inttoptr(args[0], value.llvm.as_pointer()), align=value.alignment)
        return context.get_dummy_value()

    return types.void(types.int64, value), build


@intrinsic  # type: ignore[untyped-decorator]
def store_bf16(typingctx: Any, address: Any, value: Any) -> Any:
    """Write a vector as bfloat16, rounded to nearest, ties to even (infinities stay, NaN may become one)."""

    def build(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        single = ir.VectorType(ir.FloatType(), value.width)
        numbers = args[1] if value.element == types.float32 else builder.fptrunc(args[1], single)
        words = builder.bitcast(numbers, ir.VectorType(_INT, value.width))

        def constant(number: int) -> ir.Constant:
            return ir.Constant(words.type, [number] * value.width)

        odd = builder.and_(builder.lshr(words, constant(16)), constant(1))
        rounded = builder.add(builder.add(words, constant(0x7FFF)), odd)
        halves = builder.trunc(builder.lshr(rounded, constant(16)), ir.VectorType(ir.IntType(16), value.width))
        builder.store(halves, builder.inttoptr(args[0], halves.type.as_pointer()), align=BF16_BYTES)
        return context.get_dummy_value()

    return types.void(types.int64, value), build


@intrinsic  # type: ignore[untyped-decorator]
def add(typingctx: Any, a: Any, b: Any) -> Any:
    """Return a + b."""
    return a(a, b), lambda context, builder, signature, args: builder.fadd(*args)


@intrinsic  # type: ignore[untyped-decorator]
def multiply(typingctx: Any, a: Any, b: Any) -> Any:
    """Return a * b, element by element."""
    return a(a, b), lambda context, builder, signature, args: builder.fmul(*args)


@intrinsic  # type: ignore[untyped-decorator]
def scale(typingctx: Any, a: Any, factor: Any) -> Any:
    """Return factor * a."""

    def build(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return builder.fmul(args[0], _splat(builder, args[1], a.width))

    return a(a, a.element), build


@intrinsic  # type: ignore[untyped-decorator]
def add_scaled(typingctx: Any, a: Any, b: Any, factor: Any) -> Any:
    """Return a + factor * b, rounded once."""

    def build(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return _call(builder, "fma", a, args[1], _splat(builder, args[2], a.width), args[0])

    return a(a, b, a.element), build


@intrinsic  # type: ignore[untyped-decorator]
def dot(typingctx: Any, a: Any, b: Any) -> Any:
    """Return the dot product of two vectors of a power of two, added up pairwise: halves first."""

    def build(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        product, width = builder.fmul(*args), a.width
        while width > 1:
            width //= 2
            low, high = _places(range(width)), _places(range(width, 2 * width))
            product = builder.fadd(*(builder.shuffle_vector(product, product, half) for half in (low, high)))
        return builder.extract_element(product, ir.Constant(_INT, 0))

    return a.element(a, b), build


@intrinsic  # type: ignore[untyped-decorator]
def adam_step(typingctx: Any, mean: Any, square: Any, rate: Any, correction: Any, epsilon: Any) -> Any:
    """Return rate * mean / (sqrt(square) * correction + epsilon): what Adam takes off a parameter."""

    def build(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        rate_, correction_, epsilon_ = (_splat(builder, value, mean.width) for value in args[2:])
        size = _call(builder, "fma", mean, _call(builder, "sqrt", mean, args[1]), correction_, epsilon_)
        return builder.fdiv(builder.fmul(rate_, args[0]), size)

    return mean(mean, square, *[mean.element] * 3), build


@intrinsic  # type: ignore[untyped-decorator]
def tanh(typingctx: Any, a: Any) -> Any:
    """Return the hyperbolic tangent, to within three units in the last place; NaN may become 1.

    With 2a = n ln 2 + r: e^2a - 1 = 2^n (e^r - 1) + (2^n - 1), which loses no digit near 0, and tanh(a) is that over
    itself + 2. The series of e^r - 1 ends where a further term would not be seen.
    """
    bits, mantissa, bias, high_bits, n_terms, bound = _TANH[a.element]
    high = math.floor(math.log(2) * (1 << high_bits)) / (1 << high_bits)  # its product with n is exact

    def build(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        def constant(number: float) -> ir.Constant:
            return ir.Constant(a.llvm, [number] * a.width)

        doubled = builder.fadd(args[0], args[0])
        y = _call(builder, "maxnum", a, _call(builder, "minnum", a, doubled, constant(bound)), constant(-bound))
        n = _call(builder, "rint", a, builder.fmul(y, constant(1 / math.log(2))))
        r = _call(builder, "fma", a, n, constant(-high), y)
        r = _call(builder, "fma", a, n, constant(float(Fraction(high) - _LN_2)), r)
        series = constant(1 / math.factorial(n_terms))
        for term in range(n_terms - 1, 0, -1):
            series = _call(builder, "fma", a, series, r, constant(1 / math.factorial(term)))
        integers = ir.VectorType(ir.IntType(bits), a.width)
        biased = builder.add(builder.fptosi(n, integers), ir.Constant(integers, [bias] * a.width))
        power = builder.bitcast(builder.shl(biased, ir.Constant(integers, [mantissa] * a.width)), a.llvm)
        less_one = _call(builder, "fma", a, builder.fmul(series, r), power, builder.fsub(power, constant(1.0)))
        return builder.fdiv(less_one, builder.fadd(less_one, constant(2.0)))

    return a(a), build


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def any_above(typingctx: Any, address: Any, width: Any, bound: Any) -> Any:
    """Tell whether one of `width` numbers at an address is above a bound; NaN is not."""
    kind = _vector(width, bound)

    def build(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        numbers = builder.load(builder.inttoptr(args[0], kind.llvm.as_pointer()), align=kind.alignment)
        above = builder.fcmp_ordered(">", numbers, _splat(builder, args[2], kind.width))
        bits = builder.bitcast(above, ir.IntType(kind.width))
        return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    return types.boolean(types.int64, width, bound), build


@intrinsic  # type: ignore[untyped-decorator]
def which_above(typingctx: Any, a: Any, bound: Any) -> Any:
    """Tell which numbers are above a bound: bit i of an int64 for number i, of 63 at most; NaN is not."""

    def build(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        above = builder.fcmp_ordered(">", args[0], _splat(builder, args[1], a.width))
        return builder.zext(builder.bitcast(above, ir.IntType(a.width)), ir.IntType(64))

    return types.int64(a, a.element), build


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(typingctx: Any, address: Any) -> Any:
    """Ask for the cache line at an address; it never faults."""

    def build(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        function = cgutils.get_or_insert_function(builder.module, _PREFETCH, "llvm.prefetch.p0")
        read, keep, data = (ir.Constant(_INT, value) for value in (0, 3, 1))
        builder.call(function, [builder.inttoptr(args[0], _BYTE_POINTER), read, keep, data])
        return context.get_dummy_value()

    return types.void(types.int64), build
