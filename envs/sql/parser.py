"""From the text of a statement to its tree: MySQL's SELECT language, and the few other statements an agent needs.

The grammar follows the MySQL 8.0 manual, chapters 11 and 15. A statement that does not parse raises
`SyntaxFault` at the first token that cannot go on, which is the one that MySQL's own message quotes.
"""
# ruff: noqa: E501 - statements and messages stay whole, so that they can be searched for

from __future__ import annotations

import math
import re
from dataclasses import fields
from typing import Any, NamedTuple, NoReturn

from prosegym.envs.sql.tree import (
    AGGREGATES,
    STORED,
    Case,
    Cast,
    Col,
    Cte,
    Derived,
    Explain,
    Fault,
    Func,
    In,
    Interval,
    Item,
    Join,
    Lit,
    Op,
    Other,
    Row,
    Select,
    Several,
    Show,
    Star,
    Sub,
    Table,
    Union,
    Use,
    Window,
)

# Words that cannot be a bare identifier (MySQL 8.0 manual, 11.3), lower case.
RESERVED = frozenset(
    """accessible add all alter analyze and as asc asensitive before between bigint binary blob both by call cascade
    case change char character check collate column condition constraint continue convert create cross cube cume_dist
    current_date current_time current_timestamp current_user cursor database databases day_hour day_microsecond
    day_minute day_second dec decimal declare default delayed delete dense_rank desc describe deterministic distinct
    distinctrow div double drop dual each else elseif empty enclosed escaped except exists exit explain false fetch
    first_value float float4 float8 for force foreign from fulltext function generated get grant group grouping groups
    having high_priority hour_microsecond hour_minute hour_second if ignore in index infile inner inout insensitive
    insert int int1 int2 int3 int4 int8 integer intersect interval into io_after_gtids io_before_gtids is iterate join
    json_table key keys kill lag last_value lateral lead leading leave left like limit linear lines load localtime
    localtimestamp lock long longblob longtext loop low_priority master_bind match maxvalue mediumblob mediumint
    mediumtext middleint minute_microsecond minute_second mod modifies natural not no_write_to_binlog nth_value ntile
    null numeric of on optimize optimizer_costs option optionally or order out outer outfile over partition
    percent_rank precision primary procedure purge range rank read reads read_write real recursive references regexp
    release rename repeat replace require resignal restrict return revoke right rlike row row_number rows schema
    schemas second_microsecond select sensitive separator set show signal smallint spatial specific sql sqlexception
    sqlstate sqlwarning sql_big_result sql_calc_found_rows sql_small_result ssl starting stored straight_join system
    table terminated then tinyblob tinyint tinytext to trailing trigger true undo union unique unlock unsigned update
    usage use using utc_date utc_time utc_timestamp values varbinary varchar varcharacter varying virtual when where
    while window with write xor year_month zerofill""".split()
)
_RESERVED_FUNCTIONS = frozenset(
    """if left right replace mod repeat insert char convert values database schema interval
    current_date current_time current_timestamp localtime localtimestamp utc_date utc_time utc_timestamp current_user
    row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value nth_value
    grouping""".split()
)
WINDOW_ONLY = frozenset(
    "row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value nth_value".split()
)
# Names that are a function only where "(" follows at once (MySQL 8.0 manual, 11.2.5).
_TIGHT = frozenset(
    """adddate bit_and bit_or bit_xor cast count curdate curtime date_add date_sub extract group_concat max mid min now
    position session_user std stddev stddev_pop stddev_samp subdate substr substring sum sysdate system_user trim
    variance var_pop var_samp""".split()
)
MOST_TABLES = 61
"""Tables that one query can join."""
_TABLES = frozenset("table tables no_write_to_binlog local".split())
_FOLLOWERS: dict[str, frozenset[str]] = {
    "insert": frozenset(("low_priority", "delayed", "high_priority", "ignore", "into", "")),
    "replace": frozenset(("low_priority", "delayed", "into", "")),
    "update": frozenset(("low_priority", "ignore", "")),
    "delete": frozenset(("low_priority", "quick", "ignore", "from", "")),
    "create": frozenset(
        """or database schema table temporary index unique fulltext spatial view procedure function trigger event user
        role server tablespace undo logfile definer algorithm sql aggregate resource""".split()
    ),
    "alter": frozenset(
        """table database schema user view procedure function event server tablespace instance logfile undo algorithm
        definer sql resource""".split()
    ),
    "drop": frozenset(
        """table tables temporary database schema index view procedure function trigger event user role server
        tablespace undo logfile prepare resource spatial""".split()
    ),
    "truncate": frozenset(("table", "")),
    "rename": frozenset(("table", "tables", "user")),
    "start": frozenset(("transaction", "slave", "replica", "group_replication")),
    "stop": frozenset(("slave", "replica", "group_replication")),
    "begin": frozenset(("work",)),
    "lock": frozenset(("table", "tables", "instance")),
    "unlock": frozenset(("table", "tables", "instance")),
    "analyze": _TABLES,
    "optimize": _TABLES,
    "repair": _TABLES,
    "check": frozenset(("table", "tables")),
    "checksum": frozenset(("table", "tables")),
    "load": frozenset(("data", "xml", "index")),
    "import": frozenset(("table",)),
    "deallocate": frozenset(("prepare",)),
    "change": frozenset(("master", "replication")),
    "get": frozenset(("current", "stacked", "diagnostics")),
    "purge": frozenset(("binary", "master")),
    "release": frozenset(("savepoint",)),
    "reset": frozenset(("master", "slave", "replica", "query", "persist", "binary")),
    **dict.fromkeys(
        """set commit rollback savepoint grant revoke flush kill do""".split(),
        frozenset(),
    ),
    **dict.fromkeys("call execute handler prepare".split(), frozenset(("",))),
}
"""Statements that are not read further, and the words that may come next: "" is any name, none is anything."""
_SCOPES = frozenset(
    "global session local persist persist_only names character charset password transaction role default resource".split()
)
_ARITIES = {
    **dict.fromkeys("left right mod repeat truncate".split(), (2, 2)),
    **dict.fromkeys(
        "year month day hour minute second microsecond quarter date time ascii charset collation reverse".split(),
        (1, 1),
    ),
    **dict.fromkeys("database schema user row_count".split(), (0, 0)),
    **{
        "if": (3, 3),
        "replace": (3, 3),
        "insert": (4, 4),
        "format": (2, 3),
        "week": (1, 2),
        "coalesce": (1, 1 << 16),
    },
}
"""Functions that MySQL's grammar knows with their number of arguments: another number is a syntax error (sql/sql_yacc.yy,
function_call_keyword and function_call_conflict)."""
_UNCALLED = frozenset(
    """action after aggregate any begin bit bool boolean cache chain client close code columns comment commit compact component
    data datetime definer description directory disable duplicate dynamic enable end engine enum escape event exchange execute
    expansion fields file first fixed flush full general global hash help history hosts identified import indexes instance
    isolation json last level list local locked logs medium memory merge mode modify names national never new next no none
    number nvarchar off offset one only open options owner partial partitions path phase plugin prepare preserve privileges
    process profile query quick rebuild recover relay reload remove repair replica reset resource restart restore resume role
    rollback rollup rotate routine savepoint schedule security serial server session share shutdown signed simple skip slave
    slow snapshot socket some sounds source start starts status stop storage string subject suspend tables tablespace
    temporary text than ties transaction type types undefined unicode unknown until upgrade value variables view visible wait
    warnings without work wrapper xml zone""".split()
)
"""Keywords that may be names and are no functions: none can be called, not even a stored one (MySQL 8.0 manual, 11.2.5 and 11.3)."""
KEYWORDS = RESERVED | AGGREGATES | _TIGHT | _UNCALLED | _ARITIES.keys()
_FRAME = ("between", "unbounded", "preceding", "following", "current", "row", "and")
_UNITS = frozenset("microsecond second minute hour day week month quarter year".split())
_CLOCKS = {
    "current_date": "curdate",
    "utc_date": "curdate",
    "current_time": "curtime",
    "current_timestamp": "now",
    "localtime": "now",
    "localtimestamp": "now",
    "utc_timestamp": "now",
}
"""Functions that may be written without parentheses, by another name of each."""
COMPOSITE = {
    "year_month": ("year", "month"),
    **{
        f"{a}_{b}": tuple(parts[parts.index(a) : parts.index(b) + 1])
        for parts in [["day", "hour", "minute", "second", "microsecond"]]
        for i, a in enumerate(parts)
        for b in parts[i + 1 :]
    },
}
"""Units of several parts, the largest first (MySQL 8.0 manual, 11.5.3)."""


class SyntaxFault(Exception):
    """A statement that MySQL's grammar does not admit; `near` is the rest of the text from the bad token."""

    def __init__(self, near: str, line: int) -> None:
        super().__init__(near)
        self.near = near
        self.line = line


class Token(NamedTuple):
    """A piece of the statement."""

    kind: str
    """word, quoted, string, int, dec, float, hex, op, variable, end."""
    text: str
    """Its value: names and strings without their quotes; words as written."""
    start: int
    stop: int


_SPACE = re.compile(r"(?:\s+|#[^\n]*|--(?=\s|$)[^\n]*|/\*(?![!+]).*?\*/|/\*\+.*?\*/)+", re.S)
_BLANKS = " \t\n\v\f\r"
_NUMBER = re.compile(
    r"0x[0-9a-fA-F]+(?![\w$])|(?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d+)|\d+\.\d*|\.\d+|\d+(?![\w$])"
)
_LARGEST = str((1 << 64) - 1)
"""A larger whole number is a decimal one (int_token in sql/sql_lex.cc)."""
_WORD = re.compile(r"[\w$\u0080-\uffff]+")
_QUOTED = re.compile(r"`((?:[^`]|``)*)`(?!`)")
_NO_OPERATOR = re.compile(r"=[=<>!]|<=[=!]|<[<>][=>!]|<!|>[<!]")
"""Comparison signs that MySQL reads together, though they are none of its operators (MY_LEX_CMP_OP in sql/sql_lex.cc)."""
_OPERATOR = re.compile(r"<=>|<<|>>|<=|>=|<>|!=|\|\||&&|:=|->>|->|[-+*/%=<>!~^&|(),.;@?:{}\[\]]")
_ESCAPES = {"0": "\0", "b": "\b", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a", "%": "\\%", "_": "\\_"}
_ESCAPE = re.compile(r"\\(.)", re.S)
_STRING = {
    "'": re.compile(r"'((?:[^'\\]|\\.|'')*)'", re.S),
    '"': re.compile(r'"((?:[^"\\]|\\.|"")*)"', re.S),
}


def tokens(text: str) -> list[Token]:
    """The pieces of a statement; text that is no piece becomes an `op` that no grammar rule takes."""
    out: list[Token] = []
    at, end = 0, len(text)
    while at < end:
        if match := _SPACE.match(text, at):
            at = match.end()
            continue
        char = text[at]
        if char in "'\"":
            match = _STRING[char].match(text, at)
            if match is None:
                out.append(Token("bad", char, at, end))
                break
            body = match[1].replace(char * 2, char)
            if "\\" in body:
                body = _ESCAPE.sub(lambda m: _ESCAPES.get(m[1], m[1]), body)
            out.append(Token("string", body, at, match.end()))
        elif text.startswith("/*", at):  # a comment that does not end
            out.append(Token("bad", "/*", at, end))
            break
        elif char == "`":
            match = _QUOTED.match(text, at)
            if match is None:
                out.append(Token("bad", char, at, end))
                break
            out.append(Token("quoted", match[1].replace("``", "`"), at, match.end()))
        elif (match := _NUMBER.match(text, at)) and not (
            char == "." and out and out[-1].stop == at and out[-1].kind in ("word", "quoted")
        ):
            body = match[0]
            kind = (
                "hex"
                if body[:2] == "0x"
                else "float"
                if "e" in body.lower()
                else "dec"
                if "." in body
                else "int"
            )
            if kind == "int" and len(body) >= len(_LARGEST):
                body = body.lstrip("0") or "0"
                kind = "int" if (len(body), body) <= (len(_LARGEST), _LARGEST) else "dec"
            out.append(Token(kind, body, at, match.end()))
        elif match := _WORD.match(text, at):
            # Before a dot and a name a reserved word is a name, too (MY_LEX_IDENT_SEP in sql/sql_lex.cc).
            dotted = text.startswith(".", match.end()) and _WORD.match(text, match.end() + 1)
            kind = "quoted" if dotted and match[0].lower() in RESERVED else "word"
            out.append(Token(kind, match[0], at, match.end()))
        elif text.startswith("@@", at) and (match := re.compile(r"@@[\w.]+").match(text, at)):
            out.append(Token("variable", match[0], at, match.end()))
        elif match := _NO_OPERATOR.match(text, at):
            out.append(Token("bad", match[0], at, match.end()))
        elif match := _OPERATOR.match(text, at):
            out.append(Token("op", match[0], at, match.end()))
        else:
            out.append(Token("bad", char, at, at + 1))
            at += 1
            continue
        at = match.end()
    out.append(Token("end", "", end, end))
    return out


def parse(text: str, lenient: bool = False) -> Any:
    """The tree of the one statement in `text`, or of the first as `Several`.

    With `lenient`, three things pass that other systems admit: a reserved word as a table's name, a
    derived table without an alias, and a space between an aggregate's name and its parenthesis.

    Raises:
        SyntaxFault: it is not MySQL.
        Fault: it is empty.
    """
    return _Parser(text, lenient).statement()


_COLLATION = re.compile(
    r"(utf8|utf8mb[34]|utf16|utf32|ucs2|ascii|latin[1257]|cp\d+|gb\w+|big5|sjis)_\w+", re.I
)
_AFTER_TABLE = frozenset(
    """cross except for group having inner intersect join left limit lock natural on order right straight_join union
    using where window""".split()
)
"""What may follow a table in FROM."""


class _Parser:
    """Reads one statement; raises at the first token that cannot go on."""

    def __init__(self, text: str, lenient: bool) -> None:
        # The server cuts blanks before a statement, and blanks and `;` after it (alloc_query in sql/sql_parse.cc).
        self.text = text.lstrip(_BLANKS).rstrip(_BLANKS + ";")
        self.lenient = lenient
        self.tokens = tokens(self.text)
        self.at = 0
        self.depth = 0

    # Reading tokens.

    @property
    def token(self) -> Token:
        return self.tokens[self.at]

    def fail(self) -> NoReturn:
        start = self.token.start
        raise SyntaxFault(self.text[start : start + 80], self.text.count("\n", 0, start) + 1)

    def is_word(self, *words: str) -> bool:
        token = self.tokens[self.at]
        return token.kind == "word" and token.text.lower() in words

    def word(self, *words: str) -> str | None:
        token = self.tokens[self.at]
        if token.kind == "word" and (low := token.text.lower()) in words:
            self.at += 1
            return low
        return None

    def need(self, *words: str) -> str:
        return self.word(*words) or self.fail()

    def is_op(self, *ops: str) -> bool:
        token = self.tokens[self.at]
        return token.kind == "op" and token.text in ops

    def op(self, *ops: str) -> str | None:
        token = self.tokens[self.at]
        if token.kind == "op" and token.text in ops:
            self.at += 1
            return token.text
        return None

    def need_op(self, *ops: str) -> str:
        return self.op(*ops) or self.fail()

    def is_name(self) -> bool:
        token = self.tokens[self.at]
        if token.kind != "word":
            return token.kind == "quoted"
        low = token.text.lower()
        return low not in RESERVED and not (low in _TIGHT and self.text.startswith("(", token.stop))

    def name(self, after_dot: bool = False) -> str:
        token = self.tokens[self.at]
        before = self.tokens[self.at - 1]
        apart = before.text == "." and before.stop < token.start  # where a reserved word is no name
        if not self.is_name() and not (after_dot and token.kind in ("word", "int") and not apart):
            self.fail()
        self.at += 1
        return token.text

    def integer(self) -> int:
        if self.token.kind != "int":
            self.fail()
        self.at += 1
        return int(self.tokens[self.at - 1].text)

    def string(self) -> str:
        if self.token.kind != "string":
            self.fail()
        self.at += 1
        return self.tokens[self.at - 1].text

    # Statements.

    def statement(self) -> Any:
        if not self.text:
            raise Fault("Query was empty")
        if self.token.kind == "end":  # a comment alone
            return Other("", "")
        tree = self.one()
        if self.is_op(";"):  # something follows, be it a comment
            return Several(tree)
        if self.token.kind != "end":
            self.fail()
        return tree

    def one(self) -> Any:
        if self.is_word("select", "with", "values", "table") or self.is_op("("):
            return self.query()
        start = self.token.start
        if self.word("show"):
            return self.show()
        if self.word("desc", "describe", "explain"):
            if self.is_word(
                "select", "with", "table", "insert", "update", "delete", "replace", "analyze", "format"
            ) or self.is_op("("):
                self.word("analyze")
                if self.word("format"):
                    self.need_op("=")
                    self.at += 1
                return Explain(self.query())
            first = self.name()
            second = self.name(True) if self.op(".") else None
            table, db = (second, first) if second else (first, None)
            like = None
            if self.token.kind in ("string", "word", "quoted"):
                like = self.string() if self.token.kind == "string" else self.name()
            return Show("columns", table, db, like)
        if self.word("use"):
            return Use(self.name())
        if self.word("help"):
            self.string() if self.token.kind == "string" else self.name()
            return Show("help")
        if self.is_word(*_FOLLOWERS):
            verb = self.token.text.lower()
            after, then = self.tokens[self.at + 1], self.tokens[min(self.at + 2, len(self.tokens) - 1)]
            wanted = _FOLLOWERS[verb]
            if wanted and after.kind == "word" and after.text.lower() not in wanted:
                self.at += 1
                if "" not in wanted or not self.is_name():
                    self.fail()
                self.at -= 1
            if (
                verb == "set"
                and after.kind == "word"
                and then.kind == "word"
                and after.text.lower() not in _SCOPES
            ):
                self.at += 2
                self.fail()
            words = []
            while self.token.kind != "end" and not self.is_op(";"):
                if self.token.kind == "bad" or self.is_op("[") or self.is_op("]"):  # in no statement
                    self.fail()
                words.append(self.token.text.lower())
                self.at += 1
            if len(words) < 2 and verb not in ("begin", "commit", "rollback"):
                self.fail()
            return Other(verb, self.text[start : self.token.start], tuple(words))
        self.fail()

    def show(self) -> Show:
        full = bool(self.word("full"))
        self.word("extended")
        if word := self.word("tables") or (None if full else self.word("triggers", "events")):
            db = self.name() if self.word("from", "in") else None
            return Show(word, None, db, *self.pattern(full))
        if not full and self.word("databases", "schemas"):
            return Show("databases", None, None, *self.pattern(full))
        if self.word("columns", "fields"):
            return self.of_table("columns", full)
        if not full and self.word("index", "indexes", "keys"):
            return self.of_table("index", full)
        if not full and self.word("create"):
            what = self.need("table", "view", "database", "schema")
            first = self.name()
            second = self.name(True) if self.op(".") else None
            return Show(f"create {what}", second or first, first if second else None)
        if not full and self.word("global", "session"):
            return Show(self.need("variables", "status"), None, None, *self.pattern(full))
        if word := self.word(
            "variables",
            "status",
            "engines",
            "warnings",
            "errors",
            "processlist",
            "privileges",
            "grants",
            "collation",
        ):
            if word == "grants" and self.word("for"):
                while self.token.kind != "end" and not self.is_op(";"):
                    self.at += 1
            return Show(word, None, None, *self.pattern(full))
        if self.word("table"):
            self.need("status")
            db = self.name() if self.word("from", "in") else None
            return Show("table status", None, db, *self.pattern(full))
        self.fail()

    def of_table(self, what: str, full: bool) -> Show:
        self.need("from", "in")
        first = self.name()
        second = self.name(True) if self.op(".") else None
        table, db = (second, first) if second else (first, None)
        if self.word("from", "in"):
            db = self.name()
        return Show(what, table, db, *self.pattern(full))

    def pattern(self, full: bool) -> tuple[str | None, bool, Any]:
        if self.word("like"):
            return self.string(), full, None
        if self.word("where"):
            return None, full, self.expr()
        return None, full, None

    # Queries.

    def query(self) -> Any:
        self.depth += 1
        if self.depth > 60:
            raise Fault("Too high level of nesting for select")
        ctes: list[Cte] = []
        if self.word("with"):
            recursive = bool(self.word("recursive"))
            while True:
                name = self.name()
                columns = self.names() if self.is_op("(") else ()
                self.need("as")
                self.need_op("(")
                ctes.append(Cte(name, columns, self.query(), recursive))
                self.need_op(")")
                if not self.op(","):
                    break
        parts, ops = [self.term()], []
        while word := self.word("union", "intersect", "except"):
            here = self.at - 1
            kind = "" if self.word("distinct") else self.word("all") or ""
            last = parts[-1]
            if not self.parenthesised and isinstance(last, Select) and (last.order or last.limit is not None):
                self.at = here
                self.fail()
            ops.append(f"{word} {kind}".strip().upper())
            parts.append(self.term())
        self.depth -= 1
        if not ops:
            tree = parts[0]
            if self.parenthesised:
                order, (limit, offset) = self.order(), self.limit()
                if order or limit is not None:
                    tree = Union((tree,), (), order, limit, offset)
            return _replaced(tree, ctes=tuple(ctes)) if ctes else tree
        last = parts[-1]
        order, limit, offset = (), None, 0
        if self.parenthesised:
            order, (limit, offset) = self.order(), self.limit()
        elif isinstance(last, Select):
            order, limit, offset = last.order, last.limit, last.offset
            parts[-1] = _replaced(last, order=(), limit=None, offset=0)
        return Union(*_bound(parts, ops), order, limit, offset, tuple(ctes))

    parenthesised = False

    def term(self) -> Any:
        if self.op("("):
            tree = self.query()
            self.need_op(")")
            self.parenthesised = True
            return tree
        tree = (
            self.whole_table()
            if self.is_word("table")
            else self.row_list()
            if self.is_word("values")
            else self.select()
        )
        self.parenthesised = False
        return tree

    def row_list(self) -> Any:
        """VALUES ROW(...), ... [ORDER BY ...] [LIMIT ...] (MySQL 8.0 manual, 15.2.19)."""
        self.need("values")
        parts: list[Select] = []
        while not parts or self.op(","):
            self.need("row")
            self.need_op("(")
            values = self.list()
            self.need_op(")")
            parts.append(Select(tuple(Item(v, f"column_{i}", "") for i, v in enumerate(values))))
        order = self.order()
        limit, offset = self.limit()
        return Union(tuple(parts), ("UNION ALL",) * (len(parts) - 1), order, limit, offset)

    def whole_table(self) -> Select:
        """TABLE t [ORDER BY ...] [LIMIT ...], which is SELECT * FROM t (MySQL 8.0 manual, 15.2.16)."""
        self.need("table")
        first = self.name()
        source = Table(self.name(True), None, first) if self.op(".") else Table(first, None)
        order = self.order()
        limit, offset = self.limit()
        return Select((Item(Star(), None, "*"),), source, order=order, limit=limit, offset=offset)

    def select(self) -> Select:
        self.need("select")
        distinct = False
        while word := self.word(
            "distinct",
            "distinctrow",
            "all",
            "sql_calc_found_rows",
            "straight_join",
            "sql_no_cache",
            "high_priority",
        ):
            distinct |= word.startswith("distinct")
        items = [self.item(True)]
        while self.op(","):
            items.append(self.item(False))
        source = where = having = None
        group: list[Any] = []
        rollup = False
        windows: dict[str, Window] = {}
        if self.word("from"):
            source = None if self.word("dual") else self.tables()
        elif self.is_word("into") and self.tokens[self.at + 1].text.lower() == "from":
            self.at += 1
            self.fail()
        if self.word("where"):
            where = self.expr()
        if self.word("group"):
            self.need("by")
            group.extend(self.list())
            if self.word("with"):
                self.need("rollup")
                rollup = True
        if self.word("having"):
            having = self.expr()
        if self.word("window"):
            windows = self.windows()
        order = self.order()
        limit, offset = self.limit()
        if self.word("for"):
            self.need("update", "share")
            if self.word("of"):
                self.name()
                while self.op(","):
                    self.name()
            if self.word("skip"):
                self.need("locked")
            else:
                self.word("nowait")
        elif self.word("lock"):
            for word in ("in", "share", "mode"):
                self.need(word)
        items, order = _named(tuple(items), windows), _named(order, windows)
        return Select(items, source, where, tuple(group), rollup, having, order, limit, offset, distinct)

    def windows(self) -> dict[str, Window]:
        """The WINDOW clause's windows, lower-case names."""
        found: dict[str, Window] = {}
        while True:
            name = self.name().lower()
            self.need("as")
            self.need_op("(")
            found[name] = _named(self.window(), found)
            if not self.op(","):
                return found

    def window(self) -> Window:
        """What stands between the parentheses of OVER or WINDOW."""
        base = self.name().lower() if self.is_name() else None
        partition: list[Any] = []
        if self.word("partition"):
            self.need("by")
            partition.extend(self.list())
        order = self.order()
        start = self.token.start
        if self.is_word("rows", "range"):
            self.at += 1
            while self.token.kind == "int" or self.is_word(*_FRAME):
                self.at += 1
        frame = self.text[start : self.token.start].strip()
        self.need_op(")")
        return Window(tuple(partition), order, frame, base)

    def item(self, first: bool) -> Item:
        start = self.token.start
        if first and self.op("*"):
            return Item(Star(), None, "*")
        here = self.at
        if self.is_name():
            name = self.name()
            if self.op("."):
                if self.op("*"):
                    return Item(Star(name), None, f"{name}.*")
                if (
                    self.is_name()
                    and self.tokens[self.at + 1].text == "."
                    and self.tokens[self.at + 2].text == "*"
                ):
                    self.at += 3
                    return Item(Star(self.tokens[self.at - 3].text), None, "*")
        self.at = here
        expr = self.expr()
        text = self.text[start : self.tokens[self.at - 1].stop]
        return Item(expr, self.alias(), text)

    def alias(self) -> str | None:
        if self.word("as"):
            return self.string() if self.token.kind == "string" else self.name()
        if self.token.kind == "string":
            return self.string()
        return self.name() if self.is_name() else None

    def ordered(self) -> tuple[Any, bool]:
        expr = self.expr()
        return expr, self.word("asc", "desc") == "desc"

    def order(self) -> tuple[tuple[Any, bool], ...]:
        if not self.word("order"):
            return ()
        self.need("by")
        keys = [self.ordered()]
        while self.op(","):
            keys.append(self.ordered())
        return tuple(keys)

    def limit(self) -> tuple[int | None, int]:
        if not self.word("limit"):
            return None, 0
        first = self.count()
        if self.op(","):
            return self.count(), first
        return first, self.count() if self.word("offset") else 0

    def count(self) -> int:
        """A number of LIMIT; a name is a stored program's variable."""
        if self.is_name():
            name = self.name()
            if self.token.kind == "end" or self.is_op(",", ")", ";") or self.is_word("offset"):
                raise Fault(f"Undeclared variable: {name}")
            self.fail()
        return min(self.integer(), (1 << 63) - 1)  # SQLite's largest; MySQL counts to 2^64

    def names(self) -> tuple[str, ...]:
        self.need_op("(")
        names = [self.name()]
        while self.op(","):
            names.append(self.name())
        self.need_op(")")
        return tuple(names)

    def tables(self) -> Any:
        tree = self.joined()
        while self.op(","):
            tree = Join("inner", tree, self.joined())
        return tree

    def joined(self) -> Any:
        tree = self.factor()
        while True:
            natural = bool(self.word("natural"))
            if word := self.word("left", "right"):
                self.word("outer")
                self.need("join")
                kind = word
            elif self.word("straight_join"):
                kind = "inner"
            elif word := self.word("inner", "cross"):
                self.need("join")
                kind = "inner"
            elif self.word("join"):
                kind = "inner"
            elif natural:
                self.fail()
            else:
                return tree
            right = self.factor()
            # `a JOIN b JOIN c ON x ON y` nests to the right.
            while kind == "inner" and not natural and not self.is_word("on", "using") and self.nested():
                if self.need("inner", "join") == "inner":
                    self.need("join")
                inner = self.factor()
                self.need("on")
                right = Join("inner", right, inner, self.expr())
            if natural:
                tree = Join(kind, tree, right, natural=True)
            elif self.word("on"):
                tree = Join(kind, tree, right, self.expr())
            elif self.word("using"):
                tree = Join(kind, tree, right, using=self.names())
            elif kind != "inner":
                self.fail()
            else:
                tree = Join(kind, tree, right)

    def nested(self) -> bool:
        """Whether two ON clauses follow the joins from here, before any other clause."""
        if not self.is_word("join", "inner"):
            return False
        joins = ons = depth = 0
        for at in range(self.at, len(self.tokens)):
            token = self.tokens[at]
            low = token.text.lower() if token.kind == "word" else token.text
            depth += (low == "(") - (low == ")") if token.kind == "op" else 0
            if (
                depth < 0
                or joins > MOST_TABLES
                or token.kind == "end"
                or (
                    depth == 0
                    and low in ("where", "group", "order", "limit", "having", "union", "left", "right", ",")
                )
            ):
                break
            if depth == 0 and token.kind == "word":
                joins += low == "join"
                ons += low in ("on", "using")
                if ons > joins:
                    return True
        return False

    def factor(self) -> Any:
        if self.op("("):
            if self.is_word("select", "with", "values", "table") or (
                self.is_op("(") and self.tokens[self.at + 1].text.lower() == "select"
            ):
                query = self.query()
                self.need_op(")")
                named = self.word("as")
                if self.lenient and not self.is_name():
                    return Derived(query, f"derived {self.at}")
                ended = self.token.kind == "end" or self.is_op(")", ",", ";") or self.is_word(*_AFTER_TABLE)
                if ended and not named:
                    raise Fault("Every derived table must have its own alias")
                alias = self.name()
                return Derived(query, alias, self.names() if self.is_op("(") else ())
            tree = self.tables()
            self.need_op(")")
            return tree
        if self.word("lateral"):
            self.fail()
        if self.op("{"):
            self.need("oj")
            tree = self.joined()
            self.need_op("}")
            return tree
        first = self.name(after_dot=self.lenient)
        second = self.name(True) if self.op(".") else None
        other: str | None = None
        if self.word("as"):
            text = self.lenient and self.token.kind == "string"
            other = self.string() if text else self.name()
        elif self.is_name():
            other = self.name()
        hints: list[str] = []
        while verb := self.word("use", "force", "ignore"):
            self.need("index", "key")
            self.need_op("(")
            while verb != "use" or hints or not self.is_op(")"):
                hints.append(self.name(self.is_word("primary")))
                if not self.op(","):
                    break
            self.need_op(")")
        table, db = (second, first) if second else (first, None)
        return Table(table, other, db, tuple(hints))

    # Expressions, loosest first.

    def expr(self) -> Any:
        self.depth += 1
        if self.depth > 200:
            raise Fault("Thread stack overrun")
        parts = [self.xor()]
        while self.word("or") or self.op("||"):
            parts.append(self.xor())
        self.depth -= 1
        return parts[0] if len(parts) == 1 else Op("OR", tuple(parts))

    def xor(self) -> Any:
        left = self.conjunction()
        while self.word("xor"):
            left = Op("XOR", (left, self.conjunction()))
        return left

    def conjunction(self) -> Any:
        parts = [self.negation()]
        while self.word("and") or self.op("&&"):
            parts.append(self.negation())
        return parts[0] if len(parts) == 1 else Op("AND", tuple(parts))

    def negation(self) -> Any:
        if self.word("not"):
            self.depth += 1
            if self.depth > 200:
                raise Fault("Thread stack overrun")
            inner = self.negation()
            self.depth -= 1
            return Op("NOT", (inner,))
        return self.comparison()

    def comparison(self) -> Any:
        left = self.predicate()
        while True:
            if op := self.op("=", "<=>", ">=", ">", "<=", "<", "<>", "!="):
                op = "<>" if op == "!=" else op
                if quantifier := self.word("any", "some", "all"):
                    self.need_op("(")
                    sub = Sub(self.query(), "all" if quantifier == "all" else "any")
                    self.need_op(")")
                    left = Op(op, (left, sub))
                else:
                    left = Op(op, (left, self.predicate()))
            elif self.word("is"):
                negated = bool(self.word("not"))
                what = self.need("null", "true", "false", "unknown")
                left = Op("IS " + ("NULL" if what == "unknown" else what.upper()), (left,))
                if negated:
                    left = Op("NOT", (left,))
            else:
                return left

    def predicate(self) -> Any:
        left = self.bits()
        negated = bool(self.word("not"))
        if self.word("in"):
            self.need_op("(")
            items = self.query() if self.is_word("select", "with") or self.deep_select() else self.list()
            self.need_op(")")
            return In(left, items, negated)
        if self.word("between"):
            low = self.bits()
            self.need("and")
            tree: Any = Op("BETWEEN", (left, low, self.predicate()))
        elif self.word("like"):
            pattern = self.unary()
            tree = Op("LIKE", (left, pattern, self.unary()) if self.word("escape") else (left, pattern))
        elif self.word("regexp", "rlike"):
            tree = Op("REGEXP", (left, self.bits()))
        elif self.is_word("sounds"):
            self.at += 1
            self.need("like")
            tree = Op("=", (Func("soundex", (left,)), Func("soundex", (self.bits(),))))
        elif negated:
            self.fail()
        else:
            return left
        return Op("NOT", (tree,)) if negated else tree

    def deep_select(self) -> bool:
        at = self.at
        while self.tokens[at].kind == "op" and self.tokens[at].text == "(":
            at += 1
        return at > self.at and self.tokens[at].text.lower() == "select" and self._closes_in_union(at)

    def _closes_in_union(self, at: int) -> bool:
        # `((SELECT ...))` and `((SELECT ...) UNION ...)` are queries; `((SELECT ...) + 1)` is not.
        depth = 1
        while depth and self.tokens[at].kind != "end":
            text = self.tokens[at].text if self.tokens[at].kind == "op" else ""
            depth += (text == "(") - (text == ")")
            at += 1
        after = self.tokens[at]
        return after.text.lower() in (")", "union", "order", "limit", "intersect", "except")

    def list(self, most: int | None = None) -> tuple[Any, ...]:
        if most == 0:
            self.fail()
        items = [self.expr()]
        while len(items) != most and self.op(","):
            items.append(self.expr())
        return tuple(items)

    def _left(self, ops: tuple[str, ...], words: tuple[str, ...], inner: Any) -> Any:
        left = inner()
        while op := self.op(*ops) or self.word(*words):
            left = Op("%" if op == "mod" else op.upper(), (left, inner()))
        return left

    def bits(self) -> Any:
        return self._left(
            ("|",), (), lambda: self._left(("&",), (), lambda: self._left(("<<", ">>"), (), self.sum))
        )

    def sum(self) -> Any:
        left = self.product()
        while op := self.op("+", "-"):
            if self.word("interval"):
                left = Func("date_add" if op == "+" else "date_sub", (left, self.interval()))
            else:
                left = Op(op, (left, self.product()))
        return left

    def product(self) -> Any:
        return self._left(("*", "/", "%"), ("div", "mod"), lambda: self._left(("^",), (), self.unary))

    def unary(self) -> Any:
        if op := self.op("-", "+", "~", "!"):
            self.depth += 1
            if self.depth > 200:
                raise Fault("Thread stack overrun")
            inner = self.unary()
            self.depth -= 1
            if op == "-" and isinstance(inner, Lit) and inner.kind in ("int", "dec", "double"):
                return Lit(
                    f"-{inner.value}" if not str(inner.value).startswith("-") else str(inner.value)[1:],
                    inner.kind,
                )
            return inner if op == "+" else Op({"-": "NEG", "~": "BITNOT", "!": "NOT"}[op], (inner,))
        if self.word("binary"):
            return Func("binary", (self.unary(),))
        converted = self.is_word("convert")  # perhaps USING another character set
        expr = self.primary()
        while self.word("collate"):
            name = self.string() if self.token.kind == "string" else self.name()
            if not _COLLATION.fullmatch(name):
                raise Fault(f"Unknown collation: '{name}'")
            if not name.lower().startswith("utf8mb4_") and not converted:
                expr = Func("collate", (expr, Lit(name, "str")))
            elif name.lower().endswith(("_bin", "_cs")):
                expr = Func("collate", (expr,))
        return expr

    def interval(self) -> Interval:
        value = self.expr()
        return Interval(value, self.need(*_UNITS, *COMPOSITE))

    def primary(self) -> Any:
        """A constant, a column, a call, or what stands in parentheses.

        What nests stays in this one function: Python's stack bounds how deep a statement may be.
        """
        token = self.token
        if token.kind in ("string", "int", "dec", "float", "hex", "variable"):
            return self.literal()
        if self.op("("):
            if self.is_word("select", "with") or self.deep_select():
                query = self.query()
                self.need_op(")")
                return Sub(query)
            items = self.list()
            self.need_op(")")
            return items[0] if len(items) == 1 else Row(items)
        if self.op("{"):  # ODBC's {d '2020-01-01'}, {fn NOW()}
            escape, value = self.name().lower(), self.expr()
            self.need_op("}")
            to = {"d": "date", "t": "time", "ts": "datetime"}.get(escape)
            return Lit(value.value, to) if to and isinstance(value, Lit) and value.kind == "str" else value
        if self.op("@"):
            name = self.name(True)
            if self.op(":="):
                self.expr()
            return Func("@", (Lit(name.lower(), "str"),))
        if token.kind == "word":
            if (found := self.constant()) is not None:
                return found
            low = token.text.lower()
            after = self.tokens[self.at + 1]
            call = after.kind == "op" and after.text == "("
            tight = call and after.start == token.stop
            if low == "case":
                return self.case()
            if low == "exists":
                self.at += 1
                self.need_op("(")
                query = self.query()
                self.need_op(")")
                return Sub(query, "exists")
            if low == "convert" and call or low == "cast" and (tight or (call and self.lenient)):
                return self.cast(low)
            if low == "row" and call:
                self.at += 2
                items = self.list()
                self.need_op(")")
                return Row(items)
            if low == "interval" and not call:
                self.at += 1
                interval = self.interval()
                self.need_op("+")
                return Func("date_add", (self.product(), interval))
            if low in _RESERVED_FUNCTIONS and low != "interval":
                self.at += 1
                if not call:
                    self.fail()
                return self.call(low)
            if (
                call
                and low not in RESERVED
                and low not in _UNCALLED
                and (low not in _TIGHT or tight or self.lenient)
            ):
                self.at += 1
                return self.call(low)
        if self.is_name():
            return self.column()
        self.fail()

    def literal(self) -> Any:
        """A constant that is one token, or a system variable."""
        token = self.token
        kind = token.kind
        if kind == "string":
            self.at += 1
            text = token.text
            while self.token.kind == "string":  # adjacent strings are one
                text += self.string()
            return Lit(text, "str")
        if kind in ("int", "dec", "float"):
            self.at += 1
            if kind == "float" and math.isinf(float(token.text)):
                raise Fault(f"Illegal double '{token.text[:192]}' value found during parsing")
            text = _decimal(token.text) if kind == "dec" else token.text
            return Lit(text, "double" if kind == "float" else kind)
        if kind == "hex":  # a number of it takes the last eight bytes (Item_hex_string::val_int)
            self.at += 1
            return Lit(str(int(token.text[2:][-16:], 16)), "int")
        self.at += 1  # @@variable
        return Func("@@", (Lit(token.text[2:].lower(), "str"),))

    def constant(self) -> Any:
        """A word that is a constant, or a function that may be written without parentheses; None of any other."""
        low = self.token.text.lower()
        after = self.tokens[self.at + 1]
        if low == "null":
            self.at += 1
            return Lit(None, "null")
        if low in ("true", "false"):
            self.at += 1
            return Lit(str(int(low == "true")), "int")
        if low in ("date", "time", "timestamp") and after.kind == "string":
            self.at += 2
            return Lit(after.text, "datetime" if low == "timestamp" else low)
        if low in _CLOCKS:
            self.at += 1
            if self.op("("):
                if not self.is_op(")"):
                    self.integer()
                self.need_op(")")
            return Func(_CLOCKS[low], ())
        if low == "current_user" and (after.kind, after.text) != ("op", "("):
            self.at += 1
            return Func(low, ())
        return None

    def column(self) -> Any:
        """A column, qualified or not, or the call of a stored function."""
        first = self.name()
        if self.is_op("(") and first.lower() in _TIGHT:
            return self.stored(first)
        if not self.op("."):
            return Col(first)
        second = self.name(True)
        if self.is_op("("):
            return self.stored(second, first)
        if not self.op("."):
            return Col(second, first)
        return Col(self.name(True), second, first)

    def stored(self, name: str, db: str | None = None) -> Func:
        """A call of what can only be a stored function."""
        self.need_op("(")
        args: list[Item] = []
        while args or not self.is_op(")"):
            args.append(Item(self.expr(), self.alias(), ""))
            if not self.op(","):
                break
        self.need_op(")")
        return Func(STORED, tuple(args), written=name, db=db)

    def case(self) -> Case:
        self.need("case")
        operand = None if self.is_word("when") else self.expr()
        whens = []
        if not self.is_word("when"):
            self.fail()
        while self.word("when"):
            condition = self.expr()
            self.need("then")
            whens.append((condition, self.expr()))
        default = self.expr() if self.word("else") else None
        self.need("end")
        return Case(operand, tuple(whens), default)

    def cast(self, low: str) -> Any:
        self.at += 2
        start = self.token.start
        value = self.expr()
        written = self.text[start : self.tokens[self.at - 1].stop]
        if low == "convert" and self.word("using"):
            self.name()
            self.need_op(")")
            return value
        self.need("as") if low == "cast" else self.need_op(",")
        if not self.is_word(
            "char",
            "signed",
            "unsigned",
            "decimal",
            "dec",
            "double",
            "float",
            "real",
            "date",
            "datetime",
            "time",
            "year",
            "binary",
            "nchar",
            "json",
        ):
            self.fail()
        to = self.token.text.lower()
        self.at += 1
        self.word("integer", "int", "precision")
        scale = 0 if to in ("decimal", "dec") else None
        if self.op("("):
            digits = self.integer()
            if scale is None:
                scale = digits
            elif digits > 65:
                raise Fault(f"Too-big precision {digits} specified for '{written[:192]}'. Maximum is 65.")
            if self.op(","):
                scale = self.integer()
                if scale > 30:
                    raise Fault(
                        f"Too big scale {scale} specified for column '{written[:192]}'. Maximum is 30."
                    )
            self.need_op(")")
        if to in ("char", "nchar") and self.word("character"):
            self.need("set")
            self.name()
        self.need_op(")")
        to = {"dec": "decimal", "real": "double", "nchar": "char"}.get(to, to)
        return Cast(value, to, scale)

    def call(self, name: str) -> Any:
        written = self.tokens[self.at - 1].text
        self.need_op("(")
        if name in ("date_add", "date_sub", "adddate", "subdate"):
            value = self.expr()
            self.need_op(",")
            amount: Any = self.interval() if self.word("interval") else Interval(self.expr(), "day")
            self.need_op(")")
            return Func("date_add" if "add" in name else "date_sub", (value, amount))
        if name == "extract":
            unit = self.need(*_UNITS, *COMPOSITE)
            self.need("from")
            value = self.expr()
            self.need_op(")")
            return Func("extract", (Lit(unit, "str"), value)) if unit in COMPOSITE else Func(unit, (value,))
        if name == "trim":
            side = self.word("both", "leading", "trailing")
            what = None
            if side is None or not self.is_word("from"):
                what = self.expr()
            if self.word("from"):
                value = self.expr()
            elif what is None or side is not None:
                self.fail()
            else:
                value, what = what, None
            self.need_op(")")
            return Func(
                {"leading": "ltrim", "trailing": "rtrim"}.get(side or "", "trim"),
                (value, what) if what else (value,),
            )
        if name == "position":
            what = self.bits()
            self.need("in")
            value = self.expr()
            self.need_op(")")
            return Func("locate", (what, value))
        if name in ("timestampdiff", "timestampadd"):
            unit = self.need(*_UNITS)
            self.need_op(",")
            items = self.list()
            self.need_op(")")
            return Func(name, (Lit(unit, "str"), *items))
        if name in ("substring", "substr", "mid"):
            parts = [self.expr()]
            if not self.op(","):
                self.need("from")
            parts.append(self.expr())
            if self.op(",") or self.word("for"):
                parts.append(self.expr())
            self.need_op(")")
            return Func("substring", tuple(parts))
        distinct = False
        args: tuple[Any, ...] = ()
        aggregate = name in AGGREGATES
        order: tuple[tuple[Any, bool], ...] = ()
        separator = ","
        if aggregate and self.word("distinct"):
            distinct = True
        elif aggregate and name != "group_concat":
            self.word("all")
        if name == "count" and not distinct and self.op("*"):
            args = (Star(),)
        elif not self.is_op(")"):
            # Of the aggregates, COUNT(DISTINCT ...) and GROUP_CONCAT alone take several expressions.
            several = not aggregate or name == "group_concat" or (name == "count" and distinct)
            args = self.list(_ARITIES[name][1] if name in _ARITIES else None) if several else (self.expr(),)
            if name == "group_concat":
                order = self.order()
                if self.word("separator"):
                    separator = self.string()
        elif aggregate:
            self.fail()
        if len(args) < _ARITIES.get(name, (0, 0))[0]:
            self.fail()
        self.need_op(")")
        over = None
        if self.word("over"):
            over = self.window() if self.op("(") else Window((), (), "", self.name().lower())
        elif name in WINDOW_ONLY:
            self.fail()
        return Func(name, args, distinct, order, separator, over, written)


def _decimal(text: str) -> str:
    """A decimal number as MySQL reads it, into nine words of nine digits: one that is too large for them
    becomes the largest there is (strings/decimal.cc; mysql-test/r/type_newdecimal.result)."""
    whole, point, part = text.partition(".")
    room = 9 - -(-len(whole) // 9)
    return whole + point + part[: 9 * room] if room >= 0 else "9" * 65


def _named(tree: Any, windows: dict[str, Window]) -> Any:
    """The tree with each named window replaced by what its name stands for, subqueries left alone."""
    if isinstance(tree, Window) and tree.base is not None:
        if tree.base not in windows:
            raise Fault(f"Window name '{tree.base}' is not defined.")
        base = windows[tree.base]
        added = tree.order or tree.frame
        return Window(
            base.partition, tree.order or base.order, tree.frame or base.frame, None if added else tree.base
        )
    if isinstance(tree, tuple):
        return tuple(_named(child, windows) for child in tree)
    if isinstance(tree, (Item, Func, Op, In, Case, Cast)):
        values = {f.name: getattr(tree, f.name) for f in fields(tree)}
        return _replaced(tree, **{k: _named(v, windows) for k, v in values.items()})
    return tree


def _replaced(tree: Any, **changes: Any) -> Any:
    import dataclasses

    return dataclasses.replace(tree, **changes)


def _bound(parts: list[Any], ops: list[str]) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    """The parts and operators of a union in which INTERSECT has bound what it stands between."""
    bound: list[Any] = [parts[0]]
    left: list[str] = []
    for op, part in zip(ops, parts[1:], strict=True):
        if op.startswith("INTERSECT") and left and not left[-1].startswith("INTERSECT"):
            bound[-1] = Union((bound[-1], part), (op,))
        else:
            bound.append(part)
            left.append(op)
    return tuple(bound), tuple(left)
