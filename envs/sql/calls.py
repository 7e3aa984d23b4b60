"""How each of MySQL's functions is written in SQLite."""
# ruff: noqa: E501 - statements and messages stay whole, so that they can be searched for

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from prosegym.envs.sql.conversions import Conversions
from prosegym.envs.sql.functions import to_number
from prosegym.envs.sql.tree import STORED, Fault, Func
from prosegym.envs.sql.typed import INT, STR, T, X, balanced, merge_types, merged_type

Builder = Callable[[Any, list[Any]], Any]
"""Of a compilation and its compiled arguments, the compiled call."""


def _made(
    template: str,
    kind: str,
    scale: int | None = None,
    plain: bool = True,
    texts: bool = False,
    numbers: bool = False,
    but: tuple[int, ...] = (),
) -> Builder:
    """A builder from a template in which {0}, {1}, ... are the arguments and {all} all of them.

    With `texts` or `numbers` all arguments are converted, but those at the places `but`.
    """

    def build(compiler: Conversions, args: list[X]) -> X:
        if texts or numbers:
            convert = compiler.text if texts else compiler.number
            args = [a if i in but else convert(a) for i, a in enumerate(args)]
        sqls = [a.sql for a in args]
        same = all(a.type.plain for a in args)
        return X(template.format(*sqls, all=", ".join(sqls)), T(kind, scale, plain and same))

    return build


def _first(template: str) -> Builder:
    """Of the same type as the merged arguments: IFNULL, COALESCE, GREATEST, ..."""

    def build(compiler: Conversions, args: list[X]) -> X:
        kind = merged_type(args)
        args = [compiler.as_kind(a, kind) for a in args]
        sqls = [a.sql for a in args]
        return X(template.format(*sqls, all=", ".join(sqls)), kind)

    return build


def _if(compiler: Conversions, args: list[X]) -> X:
    test = compiler.number(args[0])
    kind = merge_types(args[1].type, args[2].type)
    a, b = (compiler.as_kind(x, kind) for x in args[1:])
    return X(f"(CASE WHEN {test.sql} THEN {a.sql} ELSE {b.sql} END)", kind)


def _nullif(compiler: Conversions, args: list[X]) -> X:
    a, b = args
    return X(f"(CASE WHEN {compiler.compare('=', a, b)} THEN NULL ELSE {a.sql} END)", a.type)


def _collate(compiler: Conversions, args: list[X]) -> X:
    """With one argument, a text that tells capitals apart; with two, under a collation that texts do not take."""
    if len(args) == 2 and args[0].type.kind == "str":
        raise Fault(f"COLLATION '{args[1].const}' is not valid for CHARACTER SET 'utf8mb4'")
    return args[0]._replace(const=None)


def _round(compiler: Conversions, args: list[X]) -> X:
    x = compiler.number(args[0])
    digits = 0
    if len(args) > 1:
        if args[1].const is None:
            return X(
                f"my_round({x.sql}, {compiler.number(args[1]).sql})",
                T("double") if x.type.kind != "int" else x.type,
            )
        digits = _places(args[1].const)
    if x.type.kind in ("int", "null"):
        kind = T("int", wide=x.type.wide)
        return X(x.sql if digits >= 0 else f"CAST(my_round({x.sql}, {digits}) AS INTEGER)", kind)
    if x.type.kind == "dec":
        kind = T("dec", max(0, min(digits, x.type.scale or 0)), wide=x.type.wide)
        return X(f"my_round({x.sql}, {digits})", kind)
    return X(f"my_round_real({x.sql}, {digits})", T("double", max(0, digits)))


def _places(value: Any) -> int:
    """The places that ROUND and TRUNCATE keep: of a text the number that it begins with, 30 at most."""
    return int(max(-30, min(30, to_number(value))))


def _truncate(compiler: Conversions, args: list[X]) -> X:
    x = compiler.number(args[0])
    digits = _places(args[1].const or 0)
    kind = x.type
    if kind.kind == "dec":
        kind = T("dec", max(0, min(digits, kind.scale or 0)), wide=kind.wide)
    return X(f"my_truncate({x.sql}, {digits})", kind)


def _regexp_like(compiler: Conversions, args: list[X]) -> X:
    x, pattern, *mode = (compiler.text(a) for a in args)
    binary = [a.type.kind == "bytes" for a in (x, pattern)]
    if binary == [False, True] and x.source is not None:
        raise Fault(
            "Character set 'utf8mb4_general_ci' cannot be used in conjunction with 'binary' in call to regexp_like."
        )
    if any(binary):
        x, pattern = (X(f"CAST({a.sql} AS TEXT)", STR) for a in (x, pattern))
        mode = mode or [X("'c'", STR)]
    return X(f"my_regexp({', '.join(a.sql for a in (x, pattern, *mode))})", INT)


def _whole(name: str) -> Builder:
    def build(compiler: Conversions, args: list[X]) -> X:
        x = compiler.number(args[0])
        if x.type.kind not in ("int", "dec", "null"):
            return X(f"CAST(my_{name}({x.sql}) AS REAL)", T("double"))
        # Of a decimal that a BIGINT might not hold it stays one (Item_func_int_val::resolve_type).
        kind = T("dec", 0, wide=True) if x.type.kind == "dec" and x.type.wide else T("int", wide=x.type.wide)
        return X(f"my_{name}({x.sql})", kind)

    return build


def _absolute(compiler: Conversions, args: list[X]) -> X:
    x = compiler.number(args[0])
    return X(f"abs({x.sql})", x.type)


def _locate(compiler: Conversions, args: list[X]) -> X:
    return X(
        f"my_locate({', '.join(compiler.text(a).sql if i < 2 else a.sql for i, a in enumerate(args))})", INT
    )


def _instr(compiler: Conversions, args: list[X]) -> X:
    return _locate(compiler, [args[1], args[0]])


def _concat(compiler: Conversions, args: list[X]) -> X:
    args = [compiler.text(a) for a in args]
    return X(
        balanced([a.sql for a in args], "||"),  # of a chain SQLite holds every beginning
        T("str", None, all(a.type.plain for a in args) and len(args) == 1),
    )


def _replace(compiler: Conversions, args: list[X]) -> X:
    a, b, c = (compiler.text(x).sql for x in args)
    return X(f"(CASE WHEN {b} = '' THEN {a} ELSE replace({a}, {b}, {c}) END)", STR)


def _moment(compiler: Conversions, args: list[X]) -> X:
    return X(f"my_date({args[0].sql})", T("date"))


def _str_to_date(compiler: Conversions, args: list[X]) -> X:
    pattern = args[1].const or ""
    kind = (
        "datetime"
        if re.search("%[HhIikrTSsp]", pattern) and re.search("%[YymcdeDjMb]", pattern)
        else "time"
        if re.search("%[HhIikrTSsp]", pattern)
        else "date"
    )
    return X(f"my_str_to_date({compiler.text(args[0]).sql}, {args[1].sql}, {kind!r})", T(kind))


def _substring(compiler: Conversions, args: list[X]) -> X:
    text = compiler.text(args[0])
    rest = ", ".join(f"CAST(round({compiler.number(a).sql}) AS INTEGER)" for a in args[1:])
    return X(f"my_substring({text.sql}, {rest})", STR)


def _shifted(template: str) -> Builder:
    """ADDTIME and SUBTIME: of the first argument's type."""

    def build(compiler: Conversions, args: list[X]) -> X:
        kind = args[0].type if args[0].type.kind in ("datetime", "time") else STR
        return X(template.format(*(a.sql for a in args)), kind)

    return build


_FORMAT = ("my_format({all})", "my_format({0}, {1}, ifnull({2}, ''))")

FUNCTIONS: dict[str, tuple[int, int, Builder]] = {
    "concat": (1, 99, _concat),
    "concat_ws": (2, 99, _made("my_concat_ws({all})", "str", plain=False, texts=True)),
    "if": (3, 3, _if),
    "ifnull": (2, 2, _first("ifnull({all})")),
    "coalesce": (1, 99, _first("coalesce({all}, NULL)")),
    "greatest": (2, 99, _first("max({all})")),
    "least": (2, 99, _first("min({all})")),
    "nullif": (2, 2, _nullif),
    "isnull": (1, 1, _made("({0} IS NULL)", "int")),
    "upper": (1, 1, _made("my_upper({0})", "str", texts=True)),
    "ucase": (1, 1, _made("my_upper({0})", "str", texts=True)),
    "lower": (1, 1, _made("my_lower({0})", "str", texts=True)),
    "lcase": (1, 1, _made("my_lower({0})", "str", texts=True)),
    "length": (1, 1, _made("length(CAST({0} AS BLOB))", "int", texts=True)),
    "octet_length": (1, 1, _made("length(CAST({0} AS BLOB))", "int", texts=True)),
    "char_length": (1, 1, _made("length({0})", "int", texts=True)),
    "character_length": (1, 1, _made("length({0})", "int", texts=True)),
    "trim": (1, 2, _made("my_trim({all})", "str", plain=False, texts=True)),
    "ltrim": (1, 2, _made("my_ltrim({all})", "str", plain=False, texts=True)),
    "rtrim": (1, 2, _made("my_rtrim({all})", "str", plain=False, texts=True)),
    "left": (2, 2, _made("my_left({all})", "str", plain=False, texts=True, but=(1,))),
    "right": (2, 2, _made("my_right({all})", "str", plain=False, texts=True, but=(1,))),
    "substring": (2, 3, _substring),
    "substring_index": (3, 3, _made("my_substring_index({all})", "str", plain=False, texts=True, but=(2,))),
    "replace": (3, 3, _replace),
    "insert": (4, 4, _made("my_insert({all})", "str", plain=False, texts=True, but=(1, 2))),
    "repeat": (2, 2, _made("my_repeat({all})", "str", plain=False, texts=True, but=(1,))),
    "reverse": (1, 1, _made("my_reverse({0})", "str", plain=False, texts=True)),
    "space": (1, 1, _made("my_repeat(' ', {0})", "str", plain=False)),
    "lpad": (3, 3, _made("my_lpad({all})", "str", plain=False, texts=True, but=(1,))),
    "rpad": (3, 3, _made("my_rpad({all})", "str", plain=False, texts=True, but=(1,))),
    "locate": (2, 3, _locate),
    "instr": (2, 2, _instr),
    "strcmp": (2, 2, _made("my_strcmp({all})", "int", texts=True)),
    "ascii": (1, 1, _made("my_ascii({0})", "int", texts=True)),
    "ord": (1, 1, _made("my_ascii({0})", "int", texts=True)),
    "char": (1, 99, _made("my_char({all})", "bytes")),
    "field": (2, 99, _made("my_field({all})", "int")),
    "find_in_set": (2, 2, _made("my_find_in_set({all})", "int", texts=True)),
    "elt": (2, 99, _made("my_elt({all})", "str", plain=False, texts=True, but=(0,))),
    "format": (2, 3, lambda c, a: _made(_FORMAT[len(a) > 2], "str", plain=False)(c, a)),
    "hex": (1, 1, _made("my_hex({0})", "str")),
    "md5": (1, 1, _made("my_md5({0})", "str", texts=True)),
    "sha": (1, 1, _made("my_sha({0}, 1)", "str", texts=True)),
    "sha1": (1, 1, _made("my_sha({0}, 1)", "str", texts=True)),
    "sha2": (2, 2, _made("my_sha({all})", "str", texts=True, but=(1,))),
    "unhex": (1, 1, _made("my_unhex({0})", "bytes", texts=True)),
    "to_base64": (1, 1, _made("my_to_base64({0})", "str", texts=True)),
    "from_base64": (1, 1, _made("my_from_base64({0})", "bytes", texts=True)),
    "inet_aton": (1, 1, _made("my_inet_aton({0})", "int", texts=True)),
    "inet_ntoa": (1, 1, _made("my_inet_ntoa({0})", "str", numbers=True)),
    "bit_length": (1, 1, _made("8 * length(CAST({0} AS BLOB))", "int", texts=True)),
    "quote": (1, 1, _made("my_quote({0})", "str", plain=False, texts=True)),
    "make_set": (2, 65, _made("my_make_set({all})", "str", plain=False, texts=True, but=(0,))),
    "charset": (1, 1, _made("'utf8mb4'", "str")),
    "collation": (1, 1, _made("'utf8mb4_general_ci'", "str")),
    "load_file": (1, 1, _made("NULL", "str")),
    "regexp_instr": (2, 6, _made("my_regexp_instr({all})", "int", texts=True, but=(2, 3, 4))),
    "soundex": (1, 1, _made("my_soundex({0})", "str", texts=True)),
    "binary": (1, 1, _made("CAST({0} AS BLOB)", "bytes", texts=True)),
    "collate": (1, 2, _collate),
    "regexp_like": (2, 3, _regexp_like),
    "regexp_replace": (3, 6, _made("my_regexp_replace({all})", "str", plain=False, texts=True, but=(3, 4))),
    "regexp_substr": (2, 5, _made("my_regexp_substr({all})", "str", plain=False, texts=True, but=(2, 3))),
    "round": (1, 2, _round),
    "truncate": (2, 2, _truncate),
    "floor": (1, 1, _whole("floor")),
    "ceil": (1, 1, _whole("ceil")),
    "ceiling": (1, 1, _whole("ceil")),
    "abs": (1, 1, _absolute),
    "sign": (1, 1, _made("my_sign({0})", "int", numbers=True)),
    "mod": (2, 2, lambda c, a: c.arithmetic_of("%", a)),
    "pow": (2, 2, _made("my_pow({all})", "double", numbers=True)),
    "power": (2, 2, _made("my_pow({all})", "double", numbers=True)),
    "sqrt": (1, 1, _made("my_sqrt({0})", "double", numbers=True)),
    "exp": (1, 1, _made("my_exp({0})", "double", numbers=True)),
    "ln": (1, 1, _made("my_ln({0})", "double", numbers=True)),
    "log": (1, 2, _made("my_log({all})", "double", numbers=True)),
    "log10": (1, 1, _made("my_log(10, {0})", "double", numbers=True)),
    "log2": (1, 1, _made("my_log(2, {0})", "double", numbers=True)),
    "degrees": (1, 1, _made("my_degrees({0})", "double", numbers=True)),
    "radians": (1, 1, _made("my_radians({0})", "double", numbers=True)),
    **{
        name: (1, 1, _made(f"my_{name}({{0}})", "double", numbers=True))
        for name in ("sin", "cos", "tan", "cot", "asin", "acos")
    },
    "atan": (1, 2, _made("my_atan({all})", "double", numbers=True)),
    "atan2": (1, 2, _made("my_atan({all})", "double", numbers=True)),
    "crc32": (1, 1, _made("my_crc32({0})", "int", texts=True)),
    "conv": (3, 3, _made("my_conv({all})", "str")),
    "bin": (1, 1, _made("my_conv({0}, 10, 2)", "str")),
    "oct": (1, 1, _made("my_conv({0}, 10, 8)", "str")),
    "bit_count": (1, 1, _made("my_bit_count({0})", "int", numbers=True)),
    "pi": (0, 0, _made("3.141592653589793", "double", 6)),
    "rand": (0, 1, _made("my_rand()", "double")),
    "uuid": (0, 0, _made("'00000000-0000-0000-0000-000000000000'", "str")),
    "version": (0, 0, _made("'8.0.33'", "str")),
    "session_user": (0, 0, _made("'admin@localhost'", "str")),
    "system_user": (0, 0, _made("'admin@localhost'", "str")),
    "user": (0, 0, _made("'admin@localhost'", "str")),
    "current_user": (0, 0, _made("'admin@%'", "str")),
    "connection_id": (0, 0, _made("1", "int")),
    "last_insert_id": (0, 1, _made("0", "int")),
    "row_count": (0, 0, _made("-1", "int")),
    "found_rows": (0, 0, _made("0", "int")),
    "sleep": (1, 1, _made("0", "int")),
    "now": (0, 1, _made("my_now()", "datetime")),
    "sysdate": (0, 1, _made("my_now()", "datetime")),
    "curdate": (0, 0, _made("substr(my_now(), 1, 10)", "date")),
    "curtime": (0, 1, _made("substr(my_now(), 12)", "time")),
    "date": (1, 1, _moment),
    "time": (1, 1, _made("my_time({0})", "time")),
    "timestamp": (1, 1, _made("my_datetime({0})", "datetime")),
    "year": (1, 1, _made("my_part({0}, 'year')", "int")),
    "month": (1, 1, _made("my_part({0}, 'month')", "int")),
    "day": (1, 1, _made("my_part({0}, 'day')", "int")),
    "dayofmonth": (1, 1, _made("my_part({0}, 'day')", "int")),
    "dayofweek": (1, 1, _made("my_part({0}, 'dayofweek')", "int")),
    "dayofyear": (1, 1, _made("my_part({0}, 'dayofyear')", "int")),
    "weekday": (1, 1, _made("my_part({0}, 'weekday')", "int")),
    "week": (1, 2, _made("my_week({all})", "int")),
    "weekofyear": (1, 1, _made("my_week({0}, 3)", "int")),
    "quarter": (1, 1, _made("my_part({0}, 'quarter')", "int")),
    "hour": (1, 1, _made("my_part({0}, 'hour')", "int")),
    "minute": (1, 1, _made("my_part({0}, 'minute')", "int")),
    "second": (1, 1, _made("my_part({0}, 'second')", "int")),
    "microsecond": (1, 1, _made("0 * my_part({0}, 'second')", "int")),
    "dayname": (1, 1, _made("my_date_format({0}, '%W')", "str")),
    "monthname": (1, 1, _made("my_date_format({0}, '%M')", "str")),
    "date_format": (2, 2, _made("my_date_format({all})", "str", plain=False)),
    "time_format": (2, 2, _made("my_date_format({all})", "str", plain=False)),
    "str_to_date": (2, 2, _str_to_date),
    "datediff": (2, 2, _made("my_datediff({all})", "int")),
    "timestampdiff": (3, 3, _made("my_timestampdiff({all})", "int")),
    "timestampadd": (3, 3, _made("my_date_add({2}, {1}, {0}, 1)", "datetime")),
    "extract": (2, 2, _made("my_extract({all})", "int")),
    "addtime": (2, 2, _shifted("my_add_time({0}, {1}, 1)")),
    "subtime": (2, 2, _shifted("my_add_time({0}, {1}, -1)")),
    "timediff": (2, 2, _made("my_time_difference({all})", "time")),
    "time_to_sec": (1, 1, _made("my_seconds({0})", "int")),
    "sec_to_time": (1, 1, _made("my_clock({0})", "time", numbers=True)),
    "maketime": (3, 3, _made("my_clock(3600 * {0} + 60 * {1} + {2})", "time", numbers=True)),
    "period_add": (2, 2, _made("my_period_add({all})", "int", numbers=True)),
    "period_diff": (2, 2, _made("my_period_difference({all})", "int", numbers=True)),
    "from_days": (1, 1, _made("my_from_days({0})", "date", numbers=True)),
    "to_seconds": (1, 1, _made("my_to_seconds({0})", "int")),
    "yearweek": (1, 2, _made("my_year_week({all})", "int")),
    "utc_time": (0, 1, _made("substr(my_now(), 12)", "time")),
    "convert_tz": (3, 3, _made("my_convert_tz({all})", "datetime")),
    "last_day": (1, 1, _made("my_last_day({0})", "date")),
    "makedate": (2, 2, _made("my_makedate({all})", "date")),
    "to_days": (1, 1, _made("my_to_days({0})", "int")),
    "unix_timestamp": (0, 1, _made("my_unix_timestamp({all})", "int")),
    "from_unixtime": (
        1,
        2,
        lambda c, a: _made("my_from_unixtime({all})", "str" if a[1:] else "datetime")(c, a),
    ),
}
"""Name: fewest arguments, most, and how it is written."""


def check_count(e: Func) -> None:
    """Whether a function has as many arguments as MySQL wants of it, which its parser says before it opens tables."""
    if e.name == STORED and any(a.alias for a in e.args):
        raise Fault(f"Incorrect parameters in the call to stored function `{e.written}`")
    low, high = (
        FUNCTIONS[e.name][:2] if e.name in FUNCTIONS else (1, 1) if e.name == "any_value" else (0, 1 << 16)
    )
    if not low <= len(e.args) <= high:
        raise Fault(
            f"Incorrect parameter count in the call to native function '{e.written or e.name.upper()}'"
        )
