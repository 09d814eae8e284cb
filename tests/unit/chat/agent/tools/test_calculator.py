"""The calculator agrees with arithmetic, and runs nothing."""

import ast
import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tailrace.chat.agent.tools.calculator import MAX_CHARACTERS, CalculationError, calculate


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("17% of 2,340", 397.8),
        ("17 % OF 2,340", 397.8),
        ("10 + 17% of 200", 44),
        ("12.5% of (1,000 + 600)", 200),
        ("10/50%", 20),
        ("2+2", 4),
        ("1,234,567.5 + 1", 1234568.5),
        ("0.1+0.2", 0.3),
        ("1/3", 0.333333333333333),
        ("1/3*3", 1),
        ("(1 + 2) * -3", -9),
        ("2 ** 10", 1024),
        ("2^10", 1024),
        ("-2**2", -4),
        ("2**0.5", 1.4142135623731),
        ("2**200", 1.60693804425899e60),
        ("0*-1", 0),
        ("6 \N{MULTIPLICATION SIGN} 7 \N{DIVISION SIGN} 2 \N{MINUS SIGN} 1", 20),
        ("\t2\n+ 2 ", 4),
    ],
)
def test_an_expression_has_its_result(expression: str, result: float) -> None:
    assert calculate(expression) == result


@pytest.mark.parametrize(("expression", "kind"), [("4/2", int), ("0.5*2", int), ("1/2", float), ("10**15", float)])
def test_a_whole_result_is_an_integer_while_every_json_reader_keeps_it_exact(expression: str, kind: type) -> None:
    assert type(calculate(expression)) is kind


@pytest.mark.parametrize(
    ("expression", "code"),
    [
        ("1/0", "division_by_zero"),
        ("0/0", "division_by_zero"),
        ("0**-1", "division_by_zero"),
        ("0**0", "undefined"),
        ("(-8)**0.5", "undefined"),
        ("9**9**9", "out_of_range"),
        ("9**-9**9", "out_of_range"),
        ("(1+1/3)**(10**290)", "out_of_range"),
        ("10**300*10", "out_of_range"),
        ("1e308*10", "expression_refused"),
        ("__import__('os')", "expression_refused"),
        ("().__class__", "expression_refused"),
        ('"a"*9', "expression_refused"),
        ("2(3)", "expression_refused"),
        ("()", "expression_refused"),
        ("1,5", "expression_refused"),
        ("1,23", "expression_refused"),
        ("7//2", "expression_refused"),
        ("7 % 3", "expression_refused"),
        ("1 2", "expression_refused"),
        ("1 +", "expression_refused"),
        ("True + 1", "expression_refused"),
        ("1 if 1 else 2", "expression_refused"),
        ("0x10", "expression_refused"),
        ("1_000", "expression_refused"),
        ("\N{ARABIC-INDIC DIGIT THREE}+1", "expression_refused"),
        ("1\0+1", "expression_refused"),
        ("", "expression_refused"),
        ("(" * 5000 + "1" + ")" * 5000, "expression_refused"),
        ("1" + "+1" * 100_000, "expression_refused"),
    ],
)
def test_an_expression_without_a_result_says_why(expression: str, code: str) -> None:
    with pytest.raises(CalculationError) as caught:
        calculate(expression)

    assert caught.value.code == code
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("expression", ["-" * (MAX_CHARACTERS - 1) + "1", "9" * MAX_CHARACTERS, "2**-" * 49 + "1"])
def test_the_longest_expressions_are_worked_out(expression: str) -> None:
    assert math.isfinite(calculate(expression))


def test_an_expression_of_one_character_more_is_refused() -> None:
    longest = "1" * (MAX_CHARACTERS - 2) + "+1"

    calculate(longest)

    with pytest.raises(CalculationError, match=f"{MAX_CHARACTERS} characters at most"):
        calculate("1" + longest)


def test_nested_brackets_up_to_the_limit_give_a_result() -> None:
    depth = MAX_CHARACTERS // 2 - 1

    result = calculate("(" * depth + "7" + ")" * depth)

    assert result == 7


def _operations(children: st.SearchStrategy[ast.expr]) -> st.SearchStrategy[ast.expr]:
    operators = st.sampled_from([ast.Add(), ast.Sub(), ast.Mult()])
    return st.builds(ast.BinOp, children, operators, children) | st.builds(ast.UnaryOp, st.just(ast.USub()), children)


# Seven factors under 100 stay below 10**15, where results are exact.
_TREES = st.recursive(st.integers(0, 99).map(ast.Constant), _operations, max_leaves=7)


@settings(deadline=None)
@given(_TREES)
def test_integer_arithmetic_is_that_of_python(tree: ast.expr) -> None:
    expression = ast.unparse(tree)
    assume(len(expression) <= MAX_CHARACTERS)

    result = calculate(expression)

    assert result == eval(expression)  # noqa: S307 - literals, + - * and brackets only


@settings(deadline=None)
@given(st.integers(-(10**9), 10**9), st.integers(1, 10**9))
def test_division_is_that_of_python_to_fifteen_digits(dividend: int, divisor: int) -> None:
    result = calculate(f"{dividend} / {divisor}")

    assert math.isclose(result, dividend / divisor, rel_tol=1e-14)


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(0, 10**9))
def test_percent_of_a_number_with_separators_is_its_share(percent: int, number: int) -> None:
    result = calculate(f"{percent}% of {number:,}")

    assert result == percent * number / 100


@settings(deadline=None)
@given(st.text(alphabet="0123456789.,%+-*/^() of", max_size=30))
def test_any_other_text_has_a_finite_result_or_is_refused(text: str) -> None:
    try:
        result = calculate(text)
    except CalculationError as error:
        assert error.code in {"expression_refused", "division_by_zero", "undefined", "out_of_range"}  # noqa: PT017
    else:
        assert math.isfinite(result)
