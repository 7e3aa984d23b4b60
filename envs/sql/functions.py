"""MySQL's functions: those that SQLite gets from Python; `calls` has how each is written."""
# ruff: noqa: E501 - statements and messages stay whole, so that they can be searched for

from __future__ import annotations

import datetime as dt
import math
import re
import sqlite3
import zlib
from collections.abc import Callable
from decimal import ROUND_DOWN, ROUND_HALF_UP, Context, Decimal
from typing import Any

from prosegym.envs.sql.parser import COMPOSITE
from prosegym.envs.sql.patience import TOO_LONG, TOO_SLOW, Spend, effort
from prosegym.envs.sql.schema import fold, order_key, stored
from prosegym.envs.sql.sorting import filesort

WIDE = Context(prec=400)
"""Room for all digits that a double has, before the point and after it."""


# What SQLite calls. NULL in, NULL out, unless a function says otherwise.

NOW = dt.datetime(2023, 5, 15, 12, 0, 0)
"""The server's clock, fixed so that episodes can be replayed: the day the published episodes were recorded."""


def _dated(value: Any) -> str | None:
    """A date, a text or a number as a date and time, whose month and day may be 0; None where it is none."""
    if isinstance(value, (int, float)):  # number_to_datetime in sql-common/my_time.cc
        number = -1 if value < 0 else int(value)
        date, clock = divmod(number, 1000000) if number >= 101000000 else (number, 0)
        if date and (date < 101 or 691231 < date < 700101):
            return None
        century = 0 if not 101 <= date <= 991231 else 2000 if date <= 691231 else 1900
        return stored(f"{date + century * 10000:08d}{clock:06d}", "datetime")
    found = stored(str(value), "datetime")
    return None if found and found.startswith("0000-00-00") else found


def moment(value: Any) -> dt.datetime | None:
    """A stored date, a text or a number as a point in time; None where it is none."""
    found = None if value is None else _dated(value)
    try:
        return dt.datetime.fromisoformat(found) if found else None
    except ValueError:
        return None


_LARGE = 1000
"""Characters from which on what a function is given counts as work; the instructions bound the rest."""


def _safe(function: Callable[..., Any], spend: Spend) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        if any(a is None for a in args):
            return None
        for a in args:
            if type(a) is str and len(a) > _LARGE:
                spend(len(a), TOO_LONG)
        try:
            found = function(*args)
            if type(found) is str and len(found) > _LARGE:
                spend(len(found), TOO_LONG)
            return found
        except (ValueError, ArithmeticError, TypeError, AttributeError, re.error):
            return None

    return call


_NUMERAL = r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"


def to_number(value: Any) -> float:
    """A value as a number: of a text the number that it begins with."""
    if isinstance(value, (int, float)):
        return value
    match = re.match(rf"\s*{_NUMERAL}", str(value))
    return float(match[0]) if match else 0.0


def rounded(value: float, digits: int) -> float:
    """Half away from zero on the decimal digits that the number shows."""
    return float(Decimal(repr(value)).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP, WIDE))


def decimal(value: float, step: Decimal) -> Decimal:
    """A decimal of as many digits as the step; its zero has no sign."""
    found = Decimal(repr(value)).quantize(step, ROUND_HALF_UP, WIDE)
    return found or abs(found)


def to_text(value: Any, kind: str, scale: int | None) -> str:
    """A number as MySQL writes it."""
    if kind == "dec":
        return str(decimal(value, Decimal(1).scaleb(-(scale or 0))))
    if scale is not None:
        return f"{value:.{scale}f}"
    if kind == "float":
        return f"{value:.6g}"
    if float(value).is_integer() and abs(value) < 1e15:
        return str(int(value))
    return repr(float(value))


def like_pattern(pattern: str, escape: str, binary: bool = False) -> re.Pattern[str]:
    """LIKE's pattern as a regular expression over folded text, or over text as it is.

    What stands between two `%` is sought where it first occurs, and never elsewhere again (a group in a
    look-ahead is not gone back into), so that a match takes at most text times pattern steps.
    """
    read: Callable[[str], str] = (lambda c: c) if binary else (lambda c: fold(c) or c)
    parts, at = [""], 0
    while at < len(pattern):
        char = pattern[at]
        if char == escape and at + 1 < len(pattern):
            at += 1
            parts[-1] += re.escape(read(pattern[at]))
        elif char == "%":
            parts.append("")
        elif char == "_":
            parts[-1] += "."
        else:
            parts[-1] += re.escape(read(char))
        at += 1
    begin, *within, end = parts if len(parts) > 1 else ("", "".join(parts))
    # Groups by name: `\100` would be a character.
    sought = [rf"(?=(?P<p{n}>.*?{part}))(?P=p{n})" for n, part in enumerate(filter(None, within))]
    return re.compile("".join((begin, *sought, ".*" if len(parts) > 1 else "", end, r"\Z")), re.S)


def _fold_keep(text: str) -> str:
    return fold(text) + " " * (len(text) - len(text.rstrip(" ")))


def _try(spend: Spend, pattern: str, length: int) -> None:
    """Count what reading the pattern takes, then what seeking it in a text of that length may take."""
    spend(0, TOO_SLOW, pattern)
    spend(effort(pattern, length), TOO_SLOW)


_POSIX = (("[[:alpha:]]", r"[^\W\d_]"), ("[[:digit:]]", r"\d"), ("[[:space:]]", r"\s"), ("[[:alnum:]]", r"[^\W_]"), ("[[:<:]]", r"\b"), ("[[:>:]]", r"\b"), ("[:digit:]", r"\d"), ("[:alpha:]", "A-Za-z"), ("[:alnum:]", "A-Za-z0-9"), ("[:space:]", r"\s"), ("[:upper:]", "A-Z"), ("[:lower:]", "a-z"), ("[:punct:]", r"!-/:-@\[-`{-~"))  # fmt: skip


def _pattern(spend: Spend, text: str, pattern: str, mode: str = "") -> re.Pattern[str]:
    """A pattern as its match type reads it, to be sought in that text."""
    if not pattern:
        raise re.error("empty")
    for posix, python in _POSIX:
        pattern = pattern.replace(posix, python)
    _try(spend, pattern, len(text))
    flags = re.I
    for letter in mode:
        if letter not in "cimnu":
            raise re.error("match type")
        flags = flags & ~re.I if letter == "c" else flags | {"i": re.I, "m": re.M, "n": re.S}.get(letter, 0)
    return re.compile(pattern, flags)


def _pattern_fault(error: re.error) -> str | None:
    """What MySQL says of a pattern that is none; None where it might have one there."""
    found, pattern, at = error.msg, str(error.pattern or ""), error.pos or 0
    if found.startswith("bad character range") and "\\" not in found and not found.endswith("--"):
        return "The regular expression contains an [x-y] character range where x comes after y."
    # One with nothing before it; after ^ and $ the server takes it.
    if (found == "nothing to repeat" and pattern[at - 1 : at] in ("", "(", "|", "\n")) or (
        found == "multiple repeat" and pattern[at] != "+"
    ):
        line, start = pattern.count("\n", 0, at) + 1, pattern.rfind("\n", 0, at)
        return f"Syntax error in regular expression on line {line}, character {at - start}."
    return {
        "empty": "Illegal argument to a regular expression.",
        "match type": "Incorrect arguments to regexp_like",
        "unterminated character set": "The regular expression contains an unclosed bracket expression.",
        "missing ), unterminated subpattern": "Mismatched parenthesis in regular expression.",
        "unbalanced parenthesis": "Mismatched parenthesis in regular expression.",
        "min repeat greater than max repeat": "The maximum is less than the minumum in a {min,max} interval.",
        "bad escape (end of pattern)": "Unrecognized escape sequence in regular expression.",
    }.get(found)


def _regexp(spend: Spend, text: Any, pattern: Any, mode: Any = "") -> int:
    return int(_pattern(spend, str(text), str(pattern), mode).search(str(text)) is not None)


def _regexp_instr(
    spend: Spend, text: str, pattern: str, start: int = 1, nth: int = 1, after: int = 0, mode: str = ""
) -> int:
    found = list(_pattern(spend, text, pattern, mode).finditer(text[start - 1 :]))
    return start + found[nth - 1].span()[after] if len(found) >= nth else 0


def _regexp_replace(
    spend: Spend, text: str, pattern: str, by: str, start: int = 1, nth: int = 0, mode: str = ""
) -> str:
    compiled = _pattern(spend, text, pattern, mode)
    spend((len(text) + 1) * len(by), TOO_SLOW)
    by, number = re.sub(r"\$(\d)", r"\\\1", by), 0

    def put(found: re.Match[str]) -> str:
        nonlocal number
        number += 1
        return found.expand(by) if nth in (0, number) else found[0]

    return text[: start - 1] + compiled.sub(put, text[start - 1 :])


def _substring_at(text: Any, start: int, length: int | None = None) -> str:
    whole = str(text)
    if start == 0 or (length is not None and length < 1):
        return ""
    at = start - 1 if start > 0 else len(whole) + start
    if at < 0:
        return ""
    return whole[at:] if length is None else whole[at : at + length]


def _substring_index(text: Any, mark: Any, count: Any) -> str:
    parts = str(text).split(str(mark)) if mark != "" else [""]
    n = int(to_number(count))
    chosen = parts[:n] if n > 0 else parts[n:] if n < 0 else []
    return str(mark).join(chosen)


def _pad(text: Any, width: Any, fill: Any, left: bool) -> str | None:
    whole, pad, n = str(text), str(fill), int(to_number(width))
    if n < 0 or n > 1 << 20:
        return None
    if len(whole) >= n:
        return whole[:n]
    if not pad:
        return ""
    n -= len(whole)
    more = (pad * (n // len(pad) + 1))[:n]
    return more + whole if left else whole + more


_CLOCK = re.compile(r"\d{1,3}:\d\d(:\d\d)?$")
"""A text that is a time of day where a time is wanted, though it could be read as a date."""


def _part(value: Any, what: str) -> int | None:
    when = None if _CLOCK.match(str(value)) else moment(value)
    if (
        when is None
        and what in ("hour", "minute", "second")
        and (match := re.match(r"(\d+):(\d+)(?::(\d+))?", str(value)))
    ):
        return int(match[("hour", "minute", "second").index(what) + 1] or 0)
    if when is None:
        found = _dated(value)
        if found and what in ("year", "month", "day", "quarter"):  # incomplete, not impossible
            year, month, day = map(int, found[:10].split("-"))
            return {"year": year, "month": month, "day": day, "quarter": (month + 2) // 3}[what]
        return None
    if what == "dayofweek":
        return when.isoweekday() % 7 + 1
    if what == "dayofyear":
        return when.timetuple().tm_yday
    if what == "weekday":
        return when.weekday()
    if what == "quarter":
        return (when.month + 2) // 3
    part: int = getattr(when, what)
    return part


def _week(value: Any, mode: int = 0) -> int | None:
    when = moment(value)
    if when is None:
        return None
    if mode == 3:
        return when.isocalendar()[1]
    if mode == 1:
        jan1 = when.replace(month=1, day=1)
        first = jan1.weekday()
        return (when.timetuple().tm_yday + first - 1) // 7 + (1 if first <= 3 else 0)
    return int(when.strftime("%U"))


_MONTHS = "January February March April May June July August September October November December".split()
_DAYS = "Sunday Monday Tuesday Wednesday Thursday Friday Saturday".split()


def date_format(value: Any, pattern: str) -> str | None:
    """DATE_FORMAT, English names."""
    when = moment(value)
    if when is None:
        found = _dated(value)
        if found is None or set(re.findall("%(.)", pattern)) - set("Ymd"):
            return None
        return re.sub("%(.)", lambda m: {"Y": found[:4], "m": found[5:7], "d": found[8:10]}[m[1]], pattern)
    twelve = (when.hour + 11) % 12 + 1
    day = when.isoweekday() % 7
    suffix = "th" if 11 <= when.day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(when.day % 10, "th")
    values = {
        "a": _DAYS[day][:3], "b": _MONTHS[when.month - 1][:3], "c": str(when.month), "D": f"{when.day}{suffix}",
        "d": f"{when.day:02d}", "e": str(when.day), "f": f"{when.microsecond:06d}", "H": f"{when.hour:02d}",
        "h": f"{twelve:02d}", "I": f"{twelve:02d}", "i": f"{when.minute:02d}", "j": f"{when.timetuple().tm_yday:03d}",
        "k": str(when.hour), "l": str(twelve), "M": _MONTHS[when.month - 1], "m": f"{when.month:02d}",
        "p": "AM" if when.hour < 12 else "PM", "S": f"{when.second:02d}", "s": f"{when.second:02d}",
        "T": f"{when:%H:%M:%S}", "r": f"{twelve:02d}:{when:%M:%S} {'AM' if when.hour < 12 else 'PM'}",
        "U": f"{_week(value, 0):02d}", "u": f"{_week(value, 1):02d}", "v": f"{_week(value, 3):02d}",
        "W": _DAYS[day], "w": str(day), "Y": f"{when.year:04d}", "y": f"{when.year % 100:02d}", "x": str(when.isocalendar()[0]),
    }  # fmt: skip
    return re.sub(r"%(.)", lambda m: values.get(m[1], m[1]), pattern)


_READ = {"Y": "%Y", "y": "%y", "m": "%m", "c": "%m", "d": "%d", "e": "%d", "H": "%H", "k": "%H", "h": "%I", "I": "%I", "l": "%I", "i": "%M", "S": "%S", "s": "%S", "M": "%B", "b": "%b", "W": "%A", "a": "%a", "p": "%p", "T": "%H:%M:%S", "j": "%j", "f": "%f", "r": "%I:%M:%S %p"}  # fmt: skip


def _str_to_date_value(text: Any, pattern: Any, kind: str) -> str | None:
    whole = form = re.sub(r"%(.)", lambda m: _READ.get(m[1], m[1]), str(pattern))
    left = str(text).strip()
    when: dt.datetime | None = None
    while when is None:
        try:
            when = dt.datetime.strptime(left, form)
        except ValueError as error:
            more = str(error).partition("unconverted data remains: ")[2]
            if more and form == whole:
                left = left[: -len(more)]
            elif more or "%" not in form[1:]:
                return None
            else:  # the text may end before the pattern does
                form = form[: form.rindex("%")].rstrip(" :/,.-")
    if kind == "time":
        return f"{when:%H:%M:%S}"
    if not re.search("%[Yy]", form) or not ("%j" in form or re.search("%[mbB]", form) and "%d" in form):
        return None  # no date has a year, month or day 0 (NO_ZERO_IN_DATE)
    date = f"{when.year:04d}-{when.month:02d}-{when.day:02d}"
    return date if kind == "date" else f"{date} {when:%H:%M:%S}"


def _parts(amount: Any, unit: str) -> list[tuple[str, int]]:
    """An interval's amount by simple units: the numbers in its text, filled up from the smallest unit."""
    names = COMPOSITE.get(unit, (unit,))
    if unit not in COMPOSITE:
        return [(unit, int(to_number(amount)))]
    sign = -1 if str(amount).lstrip().startswith("-") else 1
    numbers = [sign * int(n) for n in re.findall(r"\d+", str(amount))][: len(names)]
    return list(zip(names[len(names) - len(numbers) :], numbers, strict=True))


def _date_add(value: Any, amount: Any, unit: str, sign: int) -> str | None:
    import calendar

    when = moment(value)
    if when is None:
        return None
    for name, count in _parts(amount, unit):
        n = sign * count
        if name in ("month", "quarter", "year"):
            months = when.year * 12 + when.month - 1 + n * {"month": 1, "quarter": 3, "year": 12}[name]
            year, month = divmod(months, 12)
            day = min(when.day, calendar.monthrange(year, month + 1)[1])
            when = when.replace(year=year, month=month + 1, day=day)
        else:
            when += dt.timedelta(**{name + "s": n})
    long = " " in str(value) or unit.endswith(("hour", "minute", "second"))
    return f"{when.year:04d}-{when:%m-%d %H:%M:%S}" if long else f"{when.year:04d}-{when:%m-%d}"


def _extract(unit: str, value: Any) -> int | None:
    """EXTRACT of a unit of several parts: their digits side by side, two for each but the first."""
    found = 0
    for name in COMPOSITE[unit]:
        part = 0 if name == "microsecond" else _part(value, name)
        if part is None:
            return None
        found = found * (1_000_000 if name == "microsecond" else 100) + part
    return found


def _seconds(value: Any) -> int | None:
    """A time of day, or a length of time such as `-26:00:01` or `1 2:03:04`, in seconds."""
    text = str(value).strip()
    if match := re.fullmatch(r"(-?)(?:(\d+) )?(\d+):(\d+)(?::(\d+)(?:\.\d*)?)?", text):
        days, hours, minutes, seconds = (int(match[i] or 0) for i in (2, 3, 4, 5))
        return (-1 if match[1] else 1) * (((days * 24 + hours) * 60 + minutes) * 60 + seconds)
    when = moment(value)
    return None if when is None else when.hour * 3600 + when.minute * 60 + when.second


def _clock(seconds: float) -> str:
    """Seconds as a TIME, within its range."""
    n = max(-3020399, min(3020399, round(seconds)))
    return f"{'-' * (n < 0)}{abs(n) // 3600:02d}:{abs(n) // 60 % 60:02d}:{abs(n) % 60:02d}"


def _add_time(value: Any, more: Any, sign: int) -> str | None:
    seconds = _seconds(more)
    if seconds is None:
        return None
    if "-" in str(value).strip()[1:]:
        when = moment(value)
        found = when + dt.timedelta(seconds=sign * seconds) if when else None
        return f"{found.year:04d}-{found:%m-%d %H:%M:%S}" if found else None
    start = _seconds(value)
    return None if start is None else _clock(start + sign * seconds)


def _time_difference(a: Any, b: Any) -> str | None:
    dated = ["-" in str(v).strip()[1:] for v in (a, b)]
    if dated[0] != dated[1]:
        return None
    if dated[0]:
        x, y = moment(a), moment(b)
        return None if x is None or y is None else _clock((x - y).total_seconds())
    one, two = _seconds(a), _seconds(b)
    return None if one is None or two is None else _clock(one - two)


def _months(period: float) -> int:
    """A period YYMM or YYYYMM as months since year 0."""
    year, month = divmod(int(period), 100)
    if year < 100:
        year += 2000 if year < 70 else 1900
    return year * 12 + month - 1


def _period_add(period: float, months: float) -> int:
    year, month = divmod(_months(period) + int(months), 12)
    return year * 100 + month + 1


def _year_week(value: Any, mode: int = 0) -> int | None:
    when = moment(value)
    if when is None:
        return None
    if mode in (1, 3):
        year, week, _ = when.isocalendar()
        return year * 100 + week
    week = int(when.strftime("%U"))
    if week == 0:  # the last week of the year before
        when = dt.datetime(when.year - 1, 12, 31)
        week = int(when.strftime("%U"))
    return when.year * 100 + week


def _convert_tz(value: Any, source: str, target: str) -> str | None:
    when, offsets = moment(value), []
    for zone in (source, target):
        match = re.fullmatch(r"([+-])(\d{1,2}):(\d\d)", zone)
        if match is None and zone.upper() not in ("UTC", "SYSTEM"):
            return None
        offsets.append(int(match[1] + "1") * (int(match[2]) * 60 + int(match[3])) if match else 0)
    return f"{when + dt.timedelta(minutes=offsets[1] - offsets[0])}" if when else None


def _conv(value: Any, source: Any, target: Any) -> str | None:
    a, b = int(source), abs(int(target))
    if not (2 <= abs(a) <= 36 and 2 <= b <= 36):
        return None
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    match = re.match(rf"\s*(-?)([{digits[: abs(a)]}]+)", str(value), re.I)
    # Of 64 bits, as the server's; 65 digits are too many for them in any base.
    number = min(int(match[2].lstrip("0")[:65] or "0", abs(a)), (1 << 64) - 1) if match else 0
    if match and match[1]:
        number = -number % (1 << 64)
    out = ""
    while number:
        number, rest = divmod(number, b)
        out = digits[rest].upper() + out
    return out or "0"


def _sha(text: Any, size: Any) -> str | None:
    import hashlib

    name = {0: "sha256", 1: "sha1", 224: "sha224", 256: "sha256", 384: "sha384", 512: "sha512"}.get(
        int(to_number(size))
    )
    return hashlib.new(name, str(text).encode(), usedforsecurity=False).hexdigest() if name else None


def _regexp_substr(
    spend: Spend, text: Any, pattern: Any, start: Any = 1, occurrence: Any = 1, mode: str = ""
) -> str | None:
    compiled = _pattern(spend, str(text), str(pattern), mode)
    found = [m[0] for m in compiled.finditer(str(text)[int(start) - 1 :])]
    return found[int(occurrence) - 1] if len(found) >= int(occurrence) else None


def _quote(value: Any) -> str:
    if value is None:
        return "NULL"
    escaped = re.sub(r"(['\\])", r"\\\1", str(value)).replace("\0", "\\0").replace("\x1a", "\\Z")
    return f"'{escaped}'"


def _base64(text: str) -> str:
    import base64

    whole = base64.b64encode(text.encode()).decode()
    return "\n".join(whole[i : i + 76] for i in range(0, len(whole), 76))


def _unbase64(text: str) -> bytes:
    import base64

    return base64.b64decode("".join(text.split()), validate=True)


def _inet_aton(text: str) -> int | None:
    parts = text.split(".")
    if not 1 <= len(parts) <= 4 or not all(p.isdigit() and int(p) < 256 for p in parts):
        return None
    found = int(parts[-1])
    for i, part in enumerate(parts[:-1]):
        found += int(part) << 8 * (3 - i)
    return found


def _make_set(bits: Any, *texts: Any) -> str | None:
    if bits is None:
        return None
    return ",".join(str(t) for i, t in enumerate(texts) if int(to_number(bits)) >> i & 1 and t is not None)


def _last_day(value: Any) -> str | None:
    when = moment(value)
    if when is None:
        return None
    import calendar

    return f"{when.year:04d}-{when.month:02d}-{calendar.monthrange(when.year, when.month)[1]:02d}"


def _timestampdiff(unit: str, start: Any, stop: Any) -> int | None:
    a, b = moment(start), moment(stop)
    if a is None or b is None:
        return None
    if unit in ("month", "quarter", "year"):
        sign = 1 if b >= a else -1
        low, high = min(a, b), max(a, b)
        months = (high.year - low.year) * 12 + high.month - low.month
        if (high.day, high.time()) < (low.day, low.time()):
            months -= 1
        return sign * (months // {"month": 1, "quarter": 3, "year": 12}[unit])
    seconds = int((b - a).total_seconds())
    size = {"week": 604800, "day": 86400, "hour": 3600, "minute": 60, "second": 1, "microsecond": 1}[unit]
    found = abs(seconds) // size * (1 if seconds >= 0 else -1)
    return found * 1_000_000 if unit == "microsecond" else found


def _as_date(value: Any) -> str | None:
    when = moment(value)
    return f"{when.year:04d}-{when:%m-%d}" if when else None


def _as_datetime(value: Any) -> str | None:
    when = moment(value)
    return f"{when.year:04d}-{when:%m-%d %H:%M:%S}" if when else None


def _compared(value: Any, kind: str) -> str:
    """A text beside a date: one that is no date is less than all dates."""
    found = _as_datetime(value) or "0000-00-00 00:00:00"
    return found if kind == "datetime" else found[:10]


def _as_time(value: Any) -> str | None:
    when = None if _CLOCK.match(str(value)) else moment(value)
    if when is not None:
        return f"{when:%H:%M:%S}"
    match = re.match(r"(\d+):(\d+)(?::(\d+))?", str(value))
    return f"{int(match[1]):02d}:{int(match[2]):02d}:{int(match[3] or 0):02d}" if match else None


def _rounds_up(value: Any) -> bool:
    """Whether the fraction of a second is half of one or more."""
    fraction = re.search(r":\d\d(\.\d+)\s*$", str(value))
    return fraction is not None and float(fraction[1]) >= 0.5


def _cast_datetime(value: Any) -> str | None:
    found = _as_datetime(value)
    return _date_add(found, 1, "second", 1) if found and _rounds_up(value) else found


def _cast_time(value: Any) -> str | None:
    found = _as_time(value)
    return _add_time(found, "00:00:01", 1) if found and _rounds_up(value) else found


def _digits(value: Any) -> int | float:
    text = re.sub(r"\D", "", str(value).split(".")[0])
    return int(text) if text else 0


def _from_unixtime(value: Any, pattern: Any = None) -> str | None:
    when = dt.datetime(1970, 1, 1) + dt.timedelta(seconds=int(to_number(value)))
    text = f"{when:%Y-%m-%d %H:%M:%S}"
    return text if pattern is None else date_format(text, str(pattern))


def _unix_timestamp(value: Any = None) -> int | None:
    when = NOW if value is None else moment(value)
    return None if when is None else int((when - dt.datetime(1970, 1, 1)).total_seconds())


def _soundex(text: str) -> str:
    codes = {
        c: d for d, letters in enumerate(("", "BFPV", "CGJKQSXZ", "DT", "L", "MN", "R")) for c in letters
    }
    letters = [c for c in text.upper() if c.isalpha()]
    if not letters:
        return ""
    out, last = [letters[0]], codes.get(letters[0], 0)
    for c in letters[1:]:
        code = codes.get(c, 0)
        if c in "HW":
            continue
        if code and code != last:
            out.append(str(code))
        last = code
    return "".join(out).ljust(4, "0")


# The point, what parts the thousands, and, where not all are of three digits, how many the later groups have.
_LOCALES: dict[str, tuple[str, str, int]] = {
    name: form
    for form, names in {
        (
            ",",
            ".",
            3,
        ): "be_by da_dk de_be de_de de_lu es_ar es_bo es_cl es_co es_ec es_es es_py es_uy es_ve fo_fo hu_hu id_id is_is lt_lt mn_mn nb_no no_no ro_ro ru_ua sq_al tr_tr uk_ua vi_vn",
        (
            ",",
            "",
            3,
        ): "ca_es de_at el_gr eu_es fr_be fr_ca fr_ch fr_fr fr_lu gl_es hr_hr it_it nl_be nl_nl pl_pl pt_br pt_pt sl_si",
        (",", " ", 3): "cs_cz es_cr et_ee fi_fi lv_lv mk_mk ru_ru sk_sk sv_fi sv_se",
        (".", "", 3): "ar_sa sr_rs",
        (".", "'", 3): "de_ch",
        (",", "'", 3): "it_ch rm_ch",
        (".", ",", 2): "en_in ta_in te_in",
    }.items()
    for name in names.split()
}


def _format(value: Any, digits: Any, locale: str = "en_US") -> str:
    point, mark, size = _LOCALES.get(locale.lower(), (".", ",", 3))
    places = max(0, int(to_number(digits)))
    whole, dot, rest = f"{rounded(float(to_number(value)), places):.{places}f}".partition(".")
    later = rf"(?<=\d)(?=(\d{{{size}}})*\d{{3}}$)"
    return re.sub(later, mark, whole) + (point if dot else "") + rest


def _md5(text: Any) -> str:
    import hashlib

    return hashlib.md5(str(text).encode(), usedforsecurity=False).hexdigest()


def _concat_ws(mark: Any, *parts: Any) -> str | None:
    return None if mark is None else str(mark).join(str(p) for p in parts if p is not None)


def _field(value: Any, *others: Any) -> int:
    if value is None:
        return 0
    for i, other in enumerate(others, 1):
        if other is not None and (
            fold(str(other)) == fold(str(value)) if isinstance(value, str) else to_number(other) == value
        ):
            return i
    return 0


def _round_to(value: float, digits: Any) -> float:
    n = int(to_number(digits))
    if isinstance(value, int):
        return int(Decimal(value).quantize(Decimal(1).scaleb(-n), ROUND_HALF_UP, WIDE)) if n < 0 else value
    return rounded(value, n)


def _round_real(value: float, digits: int) -> float:
    # rint(x * 10^d) / 10^d, halves to even: what the server does with real numbers.
    scale = 10.0 ** abs(digits)
    if not math.isfinite(value * scale):
        return value
    found = round(value * scale) / scale if digits >= 0 else round(value / scale) * scale
    return math.copysign(found, value)


def _truncated(value: float, digits: int) -> float:
    found = Decimal(repr(value)).quantize(Decimal(1).scaleb(-digits), ROUND_DOWN, WIDE)
    return int(found) if isinstance(value, int) else float(found)


class _GroupConcat:
    """GROUP_CONCAT with DISTINCT or ORDER BY."""

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self.mark = ","
        self.distinct = False

    def step(self, text: Any, mark: Any, distinct: Any, *order: Any) -> None:
        self.mark, self.distinct = str(mark), bool(distinct)
        if text is not None:
            self.rows.append((str(text), order))

    def finalize(self) -> str | None:
        if not self.rows:
            return None
        rows = self.rows[
            ::-1
        ]  # of rows that sort alike the later comes first (group_concat_key_cmp_with_order)
        if self.distinct:
            first = {fold(r[0]): i for i, r in enumerate(rows)}
            rows = [rows[i] for i in sorted(first.values())]
        for i in range(len(rows[0][1]) // 2 - 1, -1, -1):
            rows.sort(key=lambda r: order_key(r[1][2 * i]), reverse=bool(rows[0][1][2 * i + 1]))  # noqa: B023
        return _cut(self.mark.join(r[0] for r in rows))


def _cut(text: str) -> str:
    """GROUP_CONCAT's text within group_concat_max_len, whole characters of it."""
    return text.encode()[:1024].decode(errors="ignore")


class _First:
    """The first row's value."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def step(self, value: Any) -> None:
        if not self.values:
            self.values.append(value)

    def finalize(self) -> Any:
        return self.values[0] if self.values else None


class _Top:
    """The rows that filesort gives for a LIMIT, as their numbers between commas."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int]] = []
        self.limit = self.offset = 0
        self.counted = True

    def step(self, rank: int, number: int, limit: int, offset: int, counted: int) -> None:
        self.rows.append((number, rank))
        self.limit, self.offset, self.counted = limit, offset, bool(counted)

    def finalize(self) -> str:
        self.rows.sort()
        order = filesort([rank for _, rank in self.rows], self.limit + self.offset, self.counted)
        return "," + "".join(f"{self.rows[i][0]}," for i in order[self.offset :])


class _Variance:
    root = False

    def __init__(self) -> None:
        self.n, self.mean, self.total = 0, 0.0, 0.0

    def step(self, value: Any) -> None:
        if value is not None:
            self.n += 1
            delta = float(value) - self.mean
            self.mean += delta / self.n
            self.total += delta * (float(value) - self.mean)

    def finalize(self) -> float | None:
        if not self.n:
            return None
        found = self.total / self.n
        return math.sqrt(found) if self.root else found


class _Deviation(_Variance):
    root = True


class _SampleVariance(_Variance):
    def finalize(self) -> float | None:
        if self.n < 2:
            return None
        found = self.total / (self.n - 1)
        return math.sqrt(found) if self.root else found


class _SampleDeviation(_SampleVariance):
    root = True


class _Sum:
    def __init__(self) -> None:
        self.n, self.total = 0, 0.0

    def step(self, value: Any) -> None:
        if value is not None:
            self.n += 1
            self.total += value

    def finalize(self) -> float | None:
        return self.total if self.n else None


class _Average(_Sum):
    def finalize(self) -> float | None:
        return self.total / self.n if self.n else None


class _Or:
    start = 0

    def __init__(self) -> None:
        self.found = self.start

    def join(self, value: int) -> int:
        return self.found | value

    def step(self, value: Any) -> None:
        if value is not None:
            self.found = self.join(int(value) % (1 << 64))

    def finalize(self) -> int | float:
        # SQLite's integers end at 2^63; all bits set is what BIT_AND gives of no rows.
        return self.found if self.found < 1 << 63 else float(self.found)


class _And(_Or):
    start = (1 << 64) - 1

    def join(self, value: int) -> int:
        return self.found & value


class _Xor(_Or):
    def join(self, value: int) -> int:
        return self.found ^ value


def _collation() -> Callable[[str, str], int]:
    """utf8mb4_general_ci, which keeps what texts are folded to."""
    cache: dict[str, str] = {}
    held = 0

    def key(text: str) -> str:
        nonlocal held
        found = cache.get(text)
        if found is None:
            held += len(text) + 50
            if held > 1 << 22:
                cache.clear()
                held = len(text)
            found = cache[text] = fold(text)
        return found

    def collate(a: str, b: str) -> int:
        x, y = key(a), key(b)
        return (x > y) - (x < y)

    return collate


def _like(spend: Spend) -> Callable[..., int | None]:
    """LIKE, which keeps its patterns."""
    patterns: dict[tuple[str, str, bool], re.Pattern[str]] = {}

    def like(text: Any, pattern: Any, escape: Any) -> int | None:
        if text is None or pattern is None:
            return None
        binary = isinstance(pattern, bytes)
        if binary:
            text, pattern = text.decode(errors="replace"), pattern.decode(errors="replace")
        spend(0, TOO_LONG, str(pattern))
        found = patterns.get((pattern, escape, binary))
        if found is None:
            if len(patterns) > 1000:
                patterns.clear()
            found = patterns[pattern, escape, binary] = like_pattern(str(pattern), str(escape), binary)
        if (work := len(str(text)) * len(str(pattern))) > _LARGE:
            spend(work, TOO_LONG)
        return int(found.match(text if binary else _fold_keep(str(text))) is not None)

    return like


def _reading(function: Callable[..., Any], spend: Spend, fault: Callable[[str], None]) -> Callable[..., Any]:
    """A function of patterns, which says what is wrong with one."""

    def call(*args: Any) -> Any:
        try:
            return function(spend, *args)
        except re.error as error:
            if message := _pattern_fault(error):
                fault(message)
                raise TimeoutError from error  # which ends the statement
            raise

    return call


def install(
    connection: sqlite3.Connection,
    fault: Callable[[str], None],
    variable: Callable[[str], Any],
    rand: Callable[..., float],
    spend: Spend,
) -> None:
    """Give a connection the collation and every `my_` function; `rand` is RAND(n), `spend` counts work."""

    def raise_fault(message: str) -> None:
        fault(message)
        raise ValueError(message)

    def divisor(dividend: Any, by: Any) -> Any:
        if by == 0 and dividend is not None:
            raise_fault("Division by 0")
        return by

    def strict(value: Any, kind: str) -> Any:
        if isinstance(value, str) and not re.fullmatch(rf"\s*{_NUMERAL}\s*", value):
            raise_fault(f"Truncated incorrect {kind} value: '{value}'")
        return value

    def bigint(value: Any, message: str) -> Any:
        if isinstance(value, float):  # SQLite's, where a whole number has more than 63 bits
            raise_fault(message)
        return value

    connection.create_collation("mysql", _collation())
    connection.create_function("my_like", 3, _like(spend), deterministic=True)
    connection.create_function("my_fault", 1, raise_fault)
    connection.create_function("my_divisor", 2, divisor)
    connection.create_function("my_strict", 2, strict)
    connection.create_function("my_variable", 1, variable)
    connection.create_function("my_bigint", 2, bigint, deterministic=True)
    connection.create_function(
        "my_text", 3, lambda v, k, s: None if v is None else to_text(v, k, s), deterministic=True
    )
    connection.create_function("my_concat_ws", -1, _concat_ws, deterministic=True)
    connection.create_function("my_field", -1, _field, deterministic=True)
    connection.create_function("my_now", 0, lambda: f"{NOW:%Y-%m-%d %H:%M:%S}")
    connection.create_function("my_rand", -1, rand)
    connection.create_aggregate("my_group_concat", -1, _GroupConcat)  # type: ignore[arg-type]
    connection.create_aggregate("my_top", 5, _Top)  # type: ignore[arg-type]
    connection.create_function(
        "my_at", 2, lambda found, number: found.find(f",{number},") + 1, deterministic=True
    )
    for name, aggregate in _AGGREGATES.items():
        connection.create_aggregate(name, 1, aggregate)
    connection.create_function("my_quote", 1, _quote, deterministic=True)
    connection.create_function("my_make_set", -1, _make_set, deterministic=True)
    for name, function in _PYTHON.items():
        connection.create_function(name, -1, _safe(function, spend), deterministic=True)
    for name, function in _PATTERNS.items():
        connection.create_function(
            name, -1, _safe(_reading(function, spend, fault), spend), deterministic=True
        )


_AGGREGATES: dict[str, Any] = {
    "my_first": _First,
    "my_sum": _Sum,
    "my_avg": _Average,
    "my_variance": _Variance,
    "my_stddev": _Deviation,
    "my_var_samp": _SampleVariance,
    "my_stddev_samp": _SampleDeviation,
    "my_bit_or": _Or,
    "my_bit_and": _And,
    "my_bit_xor": _Xor,
}

_PATTERNS: dict[str, Callable[..., Any]] = {
    "my_regexp": _regexp,
    "my_regexp_instr": _regexp_instr,
    "my_regexp_replace": _regexp_replace,
    "my_regexp_substr": _regexp_substr,
}

_PYTHON: dict[str, Callable[..., Any]] = {
    "my_extract": _extract,
    "my_add_time": _add_time,
    "my_time_difference": _time_difference,
    "my_seconds": _seconds,
    "my_clock": _clock,
    "my_period_add": _period_add,
    "my_period_difference": lambda a, b: _months(a) - _months(b),
    "my_from_days": lambda n: f"{dt.date.fromordinal(int(n) - 365):%Y-%m-%d}",
    "my_to_seconds": lambda v: (
        (when.toordinal() + 365) * 86400 + when.hour * 3600 + when.minute * 60 + when.second
        if (when := moment(v))
        else None
    ),
    "my_year_week": _year_week,
    "my_convert_tz": _convert_tz,
    "my_degrees": math.degrees,
    "my_radians": math.radians,
    "my_sin": math.sin,
    "my_cos": math.cos,
    "my_tan": math.tan,
    "my_cot": lambda v: 1 / math.tan(v),
    "my_asin": math.asin,
    "my_acos": math.acos,
    "my_atan": lambda a, b=1.0: math.atan2(a, b),
    "my_crc32": lambda t: zlib.crc32(t.encode()),
    "my_conv": _conv,
    "my_bit_count": lambda n: bin(int(n) % (1 << 64)).count("1"),
    "my_sha": _sha,
    "my_unhex": lambda t: bytes.fromhex(t.zfill(len(t) + len(t) % 2)) if t.isalnum() or not t else None,
    "my_to_base64": _base64,
    "my_from_base64": _unbase64,
    "my_inet_aton": _inet_aton,
    "my_inet_ntoa": lambda n: ".".join(str(b) for b in int(n).to_bytes(4, "big")),
    "my_number": _digits,
    "my_fold": lambda t: fold(str(t)),
    "my_upper": lambda t: str(t).upper(),
    "my_lower": lambda t: str(t).lower(),
    "my_trim": lambda t, w=" ": _strip(str(t), str(w), True, True),
    "my_ltrim": lambda t, w=" ": _strip(str(t), str(w), True, False),
    "my_rtrim": lambda t, w=" ": _strip(str(t), str(w), False, True),
    "my_left": lambda t, n: str(t)[: max(0, int(to_number(n)))],
    "my_right": lambda t, n: str(t)[max(0, len(str(t)) - int(to_number(n))) :] if to_number(n) > 0 else "",
    "my_substring": _substring_at,
    "my_substring_index": _substring_index,
    "my_insert": lambda t, p, n, s: (
        str(t) if not 0 < p <= len(str(t)) else str(t)[: p - 1] + str(s) + str(t)[p - 1 + n :]
    ),
    "my_repeat": lambda t, n: (
        str(t) * max(0, int(to_number(n))) if len(str(t)) * to_number(n) < 1 << 20 else None
    ),
    "my_reverse": lambda t: str(t)[::-1],
    "my_lpad": lambda t, n, f: _pad(t, n, f, True),
    "my_rpad": lambda t, n, f: _pad(t, n, f, False),
    "my_locate": lambda w, t, at=1: (
        fold(str(t) + "\0").find(fold(str(w) + "\0")[:-1], max(0, int(at) - 1)) + 1
    ),
    "my_strcmp": lambda a, b: (fold(a) > fold(b)) - (fold(a) < fold(b)),
    "my_ascii": lambda t: str(t).encode()[0] if str(t) else 0,
    "my_char": lambda *n: bytes(int(c) % 256 for c in n),
    "my_find_in_set": lambda w, t: (
        [fold(p) for p in t.split(",")].index(fold(w)) + 1
        if fold(w) in [fold(p) for p in t.split(",")]
        else 0
    ),
    "my_elt": lambda n, *t: t[int(n) - 1] if 0 < n <= len(t) else None,
    "my_cut": _cut,
    "my_format": _format,
    "my_hex": lambda v: f"{v:X}" if isinstance(v, int) else str(v).encode().hex().upper(),
    "my_md5": _md5,
    "my_soundex": _soundex,
    "my_round": _round_to,
    "my_round_real": _round_real,
    "my_truncate": _truncated,
    "my_floor": lambda v: math.floor(v),
    "my_ceil": lambda v: math.ceil(v),
    "my_sign": lambda v: (v > 0) - (v < 0),
    "my_pow": lambda a, b: float(a) ** float(b),
    "my_sqrt": lambda v: math.sqrt(v),
    "my_exp": lambda v: math.exp(v),
    "my_ln": lambda v: math.log(v),
    "my_log": lambda a, b=None: math.log(a) if b is None else math.log(b) / math.log(a),
    "my_div": lambda a, b: (
        int(a / b)
        if isinstance(a, float) or isinstance(b, float)
        else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    ),
    # 15 digits, which a real number has of any decimal: 0.6 / 3 is to be 0.2.
    "my_quotient": lambda a, b: float(f"{a / b:.15g}"),
    "my_mod": lambda a, b: math.fmod(a, b),
    "my_rint": round,
    "my_xor": lambda a, b: int(a) ^ int(b),
    "my_date": _as_date,
    "my_moment": _compared,
    "my_datetime": _as_datetime,
    "my_time": _as_time,
    "my_cast_datetime": _cast_datetime,
    "my_cast_time": _cast_time,
    "my_part": _part,
    "my_week": _week,
    "my_date_format": lambda v, p: date_format(v, str(p)),
    "my_str_to_date": _str_to_date_value,
    "my_date_add": _date_add,
    "my_datediff": lambda a, b: (moment(a).date() - moment(b).date()).days,  # type: ignore[union-attr]
    "my_timestampdiff": _timestampdiff,
    "my_last_day": _last_day,
    "my_makedate": lambda y, d: (
        f"{dt.date(int(y), 1, 1) + dt.timedelta(days=int(d) - 1):%Y-%m-%d}" if d > 0 else None
    ),
    "my_to_days": lambda v: moment(v).toordinal() + 365,  # type: ignore[union-attr]
    "my_unix_timestamp": _unix_timestamp,
    "my_from_unixtime": _from_unixtime,
}


def _strip(text: str, what: str, left: bool, right: bool) -> str:
    start, stop = 0, len(text)
    while left and what and text.startswith(what, start, stop):
        start += len(what)
    while right and what and text.endswith(what, start, stop):
        stop -= len(what)
    return text[start:stop]
