"""The calculator: works out one arithmetic expression as people write it.

Its one rule: nothing is ever run. The text may hold digits, brackets and operators only, is parsed (never compiled),
and just the node types named here are worked out, in decimal arithmetic of bounded size, so that no power can grow.
"""

import ast
import decimal
import operator
import re
from collections.abc import Callable
from decimal import Decimal

from tailrace.chat.agent.tools.contract import ToolRefusedError

__all__ = ["MAX_CHARACTERS", "CalculationError", "calculate", "calculator"]

#: The longest expression that is read.
MAX_CHARACTERS = 200

_UNREADABLE = "Only numbers, brackets, percentages and the signs + - * / ** are understood."


class CalculationError(ToolRefusedError):
    """There is no result: `expression_refused`, `division_by_zero`, `undefined` or `out_of_range`."""


async def calculator(expression: str) -> dict[str, int | float]:
    """Work out one arithmetic expression exactly. Use it for every calculation.

    Args:
        expression: For example `17% of 2,340`, `(1 + 2) * 3` or `2 ** 0.5`.

    Raises:
        CalculationError: It has no result.
    """
    return {"result": calculate(expression)}


def calculate(expression: str) -> int | float:
    """Work out `expression`, for example `17% of 2,340`, `(1 + 2) * 3` or `2 ** 0.5`.

    Whole results under 10**15 are exact integers; others are rounded to 15 significant digits.

    Raises:
        CalculationError: The text is no arithmetic or too long, or its result is undefined or beyond 10**±300.
    """
    tree = _parse(expression)
    try:
        with decimal.localcontext(_ARITHMETIC):
            value = _evaluate(tree)
    except decimal.DivisionByZero as error:
        raise CalculationError("division_by_zero", "A division by zero has no result.") from error
    except (decimal.Overflow, decimal.Underflow) as error:
        raise CalculationError("out_of_range", "The numbers become too large or too small.") from error
    except decimal.InvalidOperation as error:
        raise CalculationError("undefined", "The expression has no real result.") from error
    return _number(value)


# The exponents bound the size of every intermediate result, and with it the cost of every step.
_ARITHMETIC = decimal.Context(
    prec=34,
    Emin=-300,
    Emax=300,
    traps=[decimal.DivisionByZero, decimal.InvalidOperation, decimal.Overflow, decimal.Underflow],
)
_SHOWN = decimal.Context(prec=15)
_EXACT_BELOW = 10**15

_DECIMAL = r"(?<![\d.])(\d+(?:\.\d*)?|\.\d+)"
_TYPED = str.maketrans(
    {
        "\N{MULTIPLICATION SIGN}": "*",
        "\N{DIVISION SIGN}": "/",
        "\N{MINUS SIGN}": "-",
        "^": "**",
    }
)
# What people write -> what is parsed, in this order.
_SPELLINGS: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])"), lambda match: match[0].replace(",", "")),
    (re.compile(rf"{_DECIMAL}\s*%\s*of\b", re.IGNORECASE), r"(\1/100)*"),
    (re.compile(rf"{_DECIMAL}\s*%"), r"(\1/100)"),
)
_ARITHMETIC_TEXT = re.compile(r"[0-9+\-*/(). ]+")


def _parse(expression: str) -> ast.expr:
    if len(expression) > MAX_CHARACTERS:
        raise CalculationError("expression_refused", f"An expression may have {MAX_CHARACTERS} characters at most.")
    text = " ".join(expression.translate(_TYPED).split())
    for spelling, python in _SPELLINGS:
        text = spelling.sub(python, text)
    if not _ARITHMETIC_TEXT.fullmatch(text):
        raise CalculationError("expression_refused", _UNREADABLE)
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, MemoryError, RecursionError) as error:  # the last two are how the parser reports deep nesting
        raise CalculationError("expression_refused", _UNREADABLE) from error


def _evaluate(node: ast.expr) -> Decimal:
    match node:
        case ast.Constant(value=int() | float() as number):
            return +Decimal(repr(number))
        case ast.UnaryOp(op=ast.UAdd() | ast.USub() as sign, operand=operand):
            return _SIGNS[type(sign)](_evaluate(operand))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATIONS:
            return _OPERATIONS[type(sign)](_evaluate(left), _evaluate(right))
        case _:
            raise CalculationError("expression_refused", _UNREADABLE)


def _divide(dividend: Decimal, divisor: Decimal) -> Decimal:
    if not divisor:  # decimal calls 0/0 an invalid operation
        raise decimal.DivisionByZero
    return dividend / divisor


def _power(base: Decimal, exponent: Decimal) -> Decimal:
    if not base and exponent < 0:  # decimal calls it infinite
        raise decimal.DivisionByZero
    return base**exponent


_SIGNS: dict[type[ast.unaryop], Callable[[Decimal], Decimal]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_OPERATIONS: dict[type[ast.operator], Callable[[Decimal, Decimal], Decimal]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: _divide,
    ast.Pow: _power,
}


def _number(value: Decimal) -> int | float:
    shown = _SHOWN.plus(value)
    whole = shown == shown.to_integral_value() and abs(shown) < _EXACT_BELOW
    return int(shown) if whole else float(shown)
