"""Random expressions of the language of conditions, typed so that all of them are valid."""

from hypothesis import strategies as st

from kgen.dispatch.predicate import Arithmetic, Call, Compare, Constant, Junction, Member, Name, Negative, Not

NUMBERS = ("M", "N", "K", "cu", "tiles_per_cu", "lds_per_group")
positive = st.integers(1, 5000).map(Constant) | st.sampled_from(("M", "N", "K", "cu")).map(Name)


def numbers(depth: int):
    """Integer expressions; products stay inside 64 bits because only small constants multiply."""
    leaf = st.integers(0, 5000).map(Constant) | st.sampled_from(NUMBERS).map(Name)
    if depth == 0:
        return leaf
    inner = numbers(depth - 1)
    return st.one_of(
        leaf,
        st.builds(Negative, inner),
        st.builds(Arithmetic, st.sampled_from("+-"), inner, inner),
        st.builds(Arithmetic, st.just("*"), inner, st.integers(0, 9).map(Constant)),
        st.builds(Arithmetic, st.sampled_from(("//", "%")), inner, positive),
        st.builds(lambda a, b: Call("ceil_div", (a, b)), inner, positive),
        st.builds(
            lambda f, args: Call(f, tuple(args)),
            st.sampled_from(("min", "max")),
            st.lists(inner, min_size=2, max_size=3),
        ),
    )


def conditions(depth: int = 2):
    """Conditions over the names of wvsplitk on gfx1151."""
    order = st.sampled_from(("<", "<=", ">", ">=", "==", "!="))
    dtype = st.sampled_from(("bf16", "fp16")).map(Constant)
    leaf = st.one_of(
        st.booleans().map(Constant),
        st.sampled_from(("dot2_bf16", "mfma_4x4x4")).map(Name),
        st.builds(
            lambda first, rest: Compare(first, tuple(rest)),
            numbers(2),
            st.lists(st.tuples(order, numbers(1)), min_size=1, max_size=2),
        ),
        st.builds(lambda op, value: Compare(Name("dtype"), ((op, value),)), st.sampled_from(("==", "!=")), dtype),
        st.builds(
            lambda options, n: Member(Name("dtype"), tuple(options), n),
            st.lists(dtype, min_size=1, max_size=2),
            st.booleans(),
        ),
        st.builds(
            lambda item, options, n: Member(item, tuple(options), n),
            numbers(1),
            st.lists(numbers(0), min_size=1, max_size=3),
            st.booleans(),
        ),
    )
    if depth == 0:
        return leaf
    inner = conditions(depth - 1)
    return st.one_of(
        leaf,
        st.builds(Not, inner),
        st.builds(
            lambda op, items: Junction(op, tuple(items)),
            st.sampled_from(("and", "or")),
            st.lists(inner, min_size=2, max_size=3),
        ),
    )


sizes = st.integers(1, 40) | st.integers(1, 1 << 18) | st.integers((1 << 31) - 3, (1 << 31) - 1)
