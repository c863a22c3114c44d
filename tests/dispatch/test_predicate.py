import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kgen.dispatch.compiled import first_true
from kgen.dispatch.evaluate import Range, check_condition, closure, possible
from kgen.dispatch.predicate import Name, PredicateError, names_in, parse, to_text
from kgen.dispatch.quantities import QUANTITIES, scope
from kgen.spec.problem import GemmShape, ceil_div

from .strategies import conditions, numbers, sizes

SCOPE = scope("wvsplitk", "gfx1151")


def value(text: str, M: int = 4096, N: int = 1, K: int = 2048, dtype: str = "bf16", cu: int = 20):
    node = parse(text)
    possible(node, SCOPE.domain())
    return closure(node)(SCOPE.environment(GemmShape(M, N, K), dtype, cu))


@given(conditions() | numbers(3))
def test_printed_expression_parses_back(node):
    assert parse(to_text(node)) == node


@settings(max_examples=300)
@given(st.text(max_size=60) | st.text("MNK dtype and or not in ()[],'\"0123456789<>=!+-*/% ", max_size=80))
def test_any_text_parses_or_raises_a_predicate_error(text):
    try:
        node = parse(text)
        check_condition(node, SCOPE.domain())
    except PredicateError as error:
        assert 1 <= error.column <= len(text) + 1  # noqa: PT017


@given(conditions(), sizes, sizes, sizes, st.sampled_from(("bf16", "fp16")), st.integers(1, 400))
def test_value_is_what_python_computes(node, M, N, K, dtype, cu):
    check_condition(node, SCOPE.domain())
    env = SCOPE.environment(GemmShape(M, N, K), dtype, cu)
    functions = {"ceil_div": ceil_div, "min": min, "max": max, "__builtins__": {}}
    assert bool(closure(node)(env)) == bool(eval(to_text(node, python=True), functions, dict(env)))


@given(st.lists(conditions(), max_size=4), sizes, sizes, sizes, st.sampled_from(("bf16", "fp16")), st.integers(1, 400))
def test_the_compiled_function_finds_the_first_that_holds(nodes, M, N, K, dtype, cu):
    env = SCOPE.environment(GemmShape(M, N, K), dtype, cu)
    first = first_true(nodes, SCOPE.trees, SCOPE.values(N, dtype, {}, cu))
    assert first(M, K) == next((i for i, node in enumerate(nodes) if closure(node)(env)), len(nodes))


@given(conditions(), sizes, sizes, st.integers(1, 8), st.sampled_from(("bf16", "fp16")), st.integers(1, 400))
def test_ranges_never_rule_out_what_happens(node, M, K, N, dtype, cu):
    outcome = bool(closure(node)(SCOPE.environment(GemmShape(M, N, K), dtype, cu)))
    assert outcome in possible(node, SCOPE.domain())
    assert outcome in possible(node, SCOPE.domain(N, dtype))


@given(numbers(3), sizes, sizes, sizes, st.integers(1, 400))
def test_ranges_hold_every_value(node, M, N, K, cu):
    span = possible(node, SCOPE.domain())
    assert isinstance(span, Range)
    assert span.low <= closure(node)(SCOPE.environment(GemmShape(M, N, K), "bf16", cu)) <= span.high


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 2 * 3 == 7", True),
        ("not N == 2 and K == 2048", True),
        ("N == 2 and false or true", True),
        ("1 < tiles_per_cu <= 52", True),
        ("1 < tiles_per_cu <= 51", False),
        ("-7 // 2 == -4 and -7 % 4 == 1", True),
        ("ceil_div(-7, 2) == -3", True),
        ("dtype in ('bf16', 'fp16',) and N not in [2, 3]", True),
        ("act_bytes == 4096 and weight_bytes == 16777216", True),
        ("dot2_bf16 and not mfma_4x4x4", True),
        ("min(M, K, 7) == 7 and max(1, N) == 1", True),
    ],
)
def test_language(text, expected):
    assert value(text) is expected


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("", 1, "ends here"),
        ("N == ", 6, "ends here"),
        ("N = 1", 3, "unexpected '='"),
        ("N / 2 == 1", 3, "unexpected '/'"),
        ("N == 1 && K > 2", 8, "unexpected '&'"),
        ("(N == 1", 8, "ends here"),
        ("N == 1)", 7, "unexpected `)`"),
        ("N in 1", 6, "unexpected `1`"),
        ("N == 1 K", 8, "unexpected `K`"),
        ("dtype == 'bf16", 10, 'unexpected "\'"'),
        ("N == 2048x", 6, "unexpected '2'"),
        ("abs(N) == 1", 1, "no function 'abs'"),
        ("ceil_div(N) == 1", 1, "1 arguments"),
        ("K <= tiles_per_cus", 6, "no name 'tiles_per_cus'"),
        ("k == 8", 1, "no name 'k'"),
        ("N", 1, "is a number"),
        ("dtype", 1, "is a string"),
        ("N == 'bf16'", 6, "compared with a string"),
        ("dtype < 'bf16'", 9, "<"),
        ("dtype == 'bfloat16'", 10, "'bfloat16'"),
        ("dot2_bf16 == true", 14, "=="),
        ("N + dtype == 1", 5, "is a string"),
        ("(N == 1) + 1 == 2", 2, "true or false"),
        ("K % 0 == 0", 5, "could be 0"),
        ("K // (M - N) == 0", 7, "could be -2147483646"),
        ("M * K * N > 1", 1, "64 bits"),
        ("999999999999999999 * 99 > N", 1, "64 bits"),
        ("1234567890123456789 > N", 1, "123456789012..."),
        ("N == 1 and (" + "(" * 60, 52, "too deeply"),
        ("not " * 60 + "true", 161, "too deeply"),
        ("-" * 60 + "1 == 1", 41, "too deeply"),
        ("1" + "+1" * 60 + " == N", 82, "in a row"),
        ("N == 1" + " " * 2000, 2001, "2006 characters"),
        ("__import__('os')", 1, "no function"),
        ("N.bit_length() == 1", 2, "unexpected '.'"),
        ("K %\n 8 == 0 or @", 16, "unexpected '@'"),
    ],
)
def test_error_points_at_its_column(text, column, words):
    with pytest.raises(PredicateError) as caught:
        check_condition(parse(text), SCOPE.domain())
    assert (caught.value.column, True) == (column, words in str(caught.value)), str(caught.value)


def test_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(PredicateError) as caught:
        check_condition(parse("tile_per_cu <= 4"), SCOPE.domain())
    assert caught.value.next == "`tiles_per_cu`?"
    assert "act_bytes" in caught.value.allowed


def test_column_is_no_part_of_a_node():
    assert parse("  N") == Name("N")


@pytest.mark.parametrize("family", QUANTITIES)
def test_every_quantity_is_documented_and_rests_on_earlier_names(family):
    known = {"M", "N", "K", "dtype", "cu", *scope(family, "gfx1151").facts}
    for quantity in QUANTITIES[family]:
        assert quantity.doc
        assert {name.id for name in names_in(parse(quantity.formula))} <= known
        known.add(quantity.name)
