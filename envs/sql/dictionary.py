"""INFORMATION_SCHEMA: the databases as MySQL 8.0 describes them.

The server's own tables stand in TABLES with the names, and where MySQL's defaults fix them the sizes, of
MySQL 8.0.33; their columns do not stand in COLUMNS.
"""
# ruff: noqa: E501 - a view's columns stay one text

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from typing import Any

from prosegym.envs.sql.schema import ORDINAL, Column, Key, Table

Rows = list[tuple[Any, ...]]

INITIALISED = "2023-05-15 05:53:{:02d}"
"""When the published server made its own tables; the second depends on the step."""

# In the order in which the server makes them. After a colon: the rows that PERFORMANCE_SCHEMA has room for;
# "!" marks rows of fixed length.
VIEWS = {
    32: """CHARACTER_SETS CHECK_CONSTRAINTS COLLATIONS COLLATION_CHARACTER_SET_APPLICABILITY COLUMNS COLUMNS_EXTENSIONS
COLUMN_STATISTICS EVENTS FILES INNODB_DATAFILES INNODB_FOREIGN INNODB_FOREIGN_COLS INNODB_FIELDS
INNODB_TABLESPACES_BRIEF KEY_COLUMN_USAGE KEYWORDS PARAMETERS PARTITIONS REFERENTIAL_CONSTRAINTS RESOURCE_GROUPS
ROUTINES SCHEMATA SCHEMATA_EXTENSIONS ST_SPATIAL_REFERENCE_SYSTEMS ST_UNITS_OF_MEASURE ST_GEOMETRY_COLUMNS STATISTICS
TABLE_CONSTRAINTS TABLE_CONSTRAINTS_EXTENSIONS TABLES TABLES_EXTENSIONS TABLESPACES_EXTENSIONS TRIGGERS
VIEW_ROUTINE_USAGE VIEW_TABLE_USAGE VIEWS COLUMN_PRIVILEGES ENGINES OPTIMIZER_TRACE PLUGINS PROCESSLIST PROFILING
SCHEMA_PRIVILEGES TABLESPACES TABLE_PRIVILEGES USER_PRIVILEGES""",
    34: """ENABLED_ROLES APPLICABLE_ROLES ADMINISTRABLE_ROLE_AUTHORIZATIONS ROLE_COLUMN_GRANTS ROLE_ROUTINE_GRANTS
ROLE_TABLE_GRANTS USER_ATTRIBUTES""",
    36: """INNODB_SESSION_TEMP_TABLESPACES INNODB_VIRTUAL INNODB_BUFFER_POOL_STATS INNODB_BUFFER_PAGE INNODB_CMPMEM_RESET
INNODB_CMPMEM INNODB_TRX INNODB_CMP_PER_INDEX_RESET INNODB_CMP_RESET INNODB_FT_DEFAULT_STOPWORD INNODB_CMP
INNODB_TABLES INNODB_FT_BEING_DELETED INNODB_METRICS INNODB_TEMP_TABLE_INFO INNODB_FT_DELETED INNODB_CACHED_INDEXES
INNODB_COLUMNS INNODB_FT_INDEX_TABLE INNODB_TABLESTATS INNODB_BUFFER_PAGE_LRU INNODB_CMP_PER_INDEX INNODB_FT_CONFIG
INNODB_FT_INDEX_CACHE INNODB_INDEXES INNODB_TABLESPACES""",
}
PERFORMANCE = """cond_instances:256 error_log:9 events_waits_current:1536 events_waits_history:2560 events_waits_history_long:10000
events_waits_summary_by_host_by_event_name:83712 events_waits_summary_by_instance:10752
events_waits_summary_by_thread_by_event_name:167424 events_waits_summary_by_user_by_event_name:83712
events_waits_summary_by_account_by_event_name:83712 events_waits_summary_global_by_event_name:654 file_instances:4096
file_summary_by_event_name:80 file_summary_by_instance:4096 host_cache:279 mutex_instances:4096
objects_summary_global_by_type:4096 performance_timers:5! processlist:256 rwlock_instances:2048 setup_actors:128!
setup_consumers:16 setup_instruments:1500 setup_objects:128 setup_threads:100
table_io_waits_summary_by_index_usage:8192 table_io_waits_summary_by_table:4096 table_lock_waits_summary_by_table:4096
threads:256 events_stages_current:256 events_stages_history:2560 events_stages_history_long:10000
events_stages_summary_by_thread_by_event_name:44800 events_stages_summary_by_account_by_event_name:22400
events_stages_summary_by_user_by_event_name:22400 events_stages_summary_by_host_by_event_name:22400
events_stages_summary_global_by_event_name:175 events_statements_current:2560 events_statements_history:2560
events_statements_history_long:10000 events_statements_summary_by_thread_by_event_name:56064
events_statements_summary_by_account_by_event_name:28032 events_statements_summary_by_user_by_event_name:28032
events_statements_summary_by_host_by_event_name:28032 events_statements_summary_global_by_event_name:219
events_statements_summary_by_digest:10000 events_statements_summary_by_program:0
events_statements_histogram_global:450! events_statements_histogram_by_digest:10000 events_transactions_current:256
events_transactions_history:2560 events_transactions_history_long:10000
events_transactions_summary_by_thread_by_event_name:256 events_transactions_summary_by_account_by_event_name:128
events_transactions_summary_by_user_by_event_name:128 events_transactions_summary_by_host_by_event_name:128
events_transactions_summary_global_by_event_name:1 events_errors_summary_by_user_by_error:209408
events_errors_summary_by_host_by_error:209408 events_errors_summary_by_account_by_error:209408
events_errors_summary_by_thread_by_error:418816 events_errors_summary_global_by_error:5288 users:128! accounts:128!
hosts:128! socket_instances:256 socket_summary_by_instance:256 socket_summary_by_event_name:10
session_connect_attrs:131072 session_account_connect_attrs:131072 keyring_keys:96
memory_summary_global_by_event_name:450 memory_summary_by_account_by_event_name:57600
memory_summary_by_host_by_event_name:57600 memory_summary_by_thread_by_event_name:115200
memory_summary_by_user_by_event_name:57600 table_handles:1024 metadata_locks:1024 data_locks:99999
data_lock_waits:99999 replication_connection_configuration:256 replication_group_members:0!
replication_connection_status:256 replication_applier_configuration:256 replication_applier_status:256!
replication_applier_status_by_coordinator:256 replication_applier_status_by_worker:8192
replication_group_member_stats:0 replication_applier_filters:0 replication_applier_global_filters:0
replication_asynchronous_connection_failover:0! replication_asynchronous_connection_failover_managed:0 log_status:1
prepared_statements_instances:0 user_variables_by_thread:2560 status_by_account:32768 status_by_host:32768
status_by_thread:65536 status_by_user:32768 global_status:256 session_status:256 variables_by_thread:172288
global_variables:673 session_variables:673 variables_info:673 persisted_variables:0 user_defined_functions:16
binary_log_transaction_compression_stats:0 tls_channel_status:96 keyring_component_status:64 innodb_redo_log_files:1"""
MYSQL = """innodb_table_stats innodb_index_stats db user default_roles role_edges global_grants password_history func plugin
help_topic help_category help_relation servers tables_priv columns_priv help_keyword time_zone_name time_zone
time_zone_transition time_zone_transition_type time_zone_leap_second procs_priv general_log slow_log component
slave_relay_log_info slave_master_info slave_worker_info gtid_executed replication_asynchronous_connection_failover
replication_asynchronous_connection_failover_managed replication_group_member_actions
replication_group_configuration_version server_cost engine_cost proxies_priv ndb_binlog_index"""
SYS = """version sys_config innodb_buffer_stats_by_schema x$innodb_buffer_stats_by_schema innodb_buffer_stats_by_table
x$innodb_buffer_stats_by_table schema_object_overview schema_auto_increment_columns x$schema_flattened_keys
schema_redundant_indexes ps_check_lost_instrumentation latest_file_io x$latest_file_io io_by_thread_by_latency
x$io_by_thread_by_latency io_global_by_file_by_bytes x$io_global_by_file_by_bytes io_global_by_file_by_latency
x$io_global_by_file_by_latency io_global_by_wait_by_bytes x$io_global_by_wait_by_bytes io_global_by_wait_by_latency
x$io_global_by_wait_by_latency innodb_lock_waits x$innodb_lock_waits memory_by_user_by_current_bytes
x$memory_by_user_by_current_bytes memory_by_host_by_current_bytes x$memory_by_host_by_current_bytes
memory_by_thread_by_current_bytes x$memory_by_thread_by_current_bytes memory_global_by_current_bytes
x$memory_global_by_current_bytes memory_global_total x$memory_global_total schema_index_statistics
x$schema_index_statistics x$ps_schema_table_statistics_io schema_table_statistics x$schema_table_statistics
schema_table_statistics_with_buffer x$schema_table_statistics_with_buffer schema_tables_with_full_table_scans
x$schema_tables_with_full_table_scans schema_unused_indexes schema_table_lock_waits x$schema_table_lock_waits
statement_analysis x$statement_analysis statements_with_errors_or_warnings x$statements_with_errors_or_warnings
statements_with_full_table_scans x$statements_with_full_table_scans x$ps_digest_avg_latency_distribution
x$ps_digest_95th_percentile_by_avg_us statements_with_runtimes_in_95th_percentile
x$statements_with_runtimes_in_95th_percentile statements_with_sorting x$statements_with_sorting
statements_with_temp_tables x$statements_with_temp_tables user_summary_by_file_io_type x$user_summary_by_file_io_type
user_summary_by_file_io x$user_summary_by_file_io user_summary_by_statement_type x$user_summary_by_statement_type
user_summary_by_statement_latency x$user_summary_by_statement_latency user_summary_by_stages x$user_summary_by_stages
user_summary x$user_summary host_summary_by_file_io_type x$host_summary_by_file_io_type host_summary_by_file_io
x$host_summary_by_file_io host_summary_by_statement_type x$host_summary_by_statement_type
host_summary_by_statement_latency x$host_summary_by_statement_latency host_summary_by_stages x$host_summary_by_stages
host_summary x$host_summary wait_classes_global_by_avg_latency x$wait_classes_global_by_avg_latency
wait_classes_global_by_latency x$wait_classes_global_by_latency waits_by_user_by_latency x$waits_by_user_by_latency
waits_by_host_by_latency x$waits_by_host_by_latency waits_global_by_latency x$waits_global_by_latency metrics
processlist x$processlist session x$session session_ssl_status"""

SYSTEM: Mapping[str, Sequence[str]] = {
    "information_schema": " ".join(VIEWS.values()).split(),
    "mysql": MYSQL.split(),
    "performance_schema": re.sub(r":\d+!?", "", PERFORMANCE).split(),
    "sys": SYS.split(),
}
"""The server's own databases and their tables."""

PAGE = 16384
"""Bytes of an InnoDB page."""
_WIDTHS = {
    "tinyint": 1, "smallint": 2, "mediumint": 3, "bigint": 8, "year": 1, "double": 8, "real": 8, "date": 3, "datetime": 5, "timestamp": 4, "time": 3,
}  # fmt: skip
"""Bytes that a value of a type takes in a row; 4 for the others of fixed width."""


def data_length(table: Table) -> int:
    """Bytes of the clustered index after its rows came in order, in InnoDB's DYNAMIC row format.

    Pages are filled to 15/16, but for the first: when the tree grows above one page, half of its rows stay.
    """
    nullable = sum(c.nullable for c in table.columns)
    fixed = 5 + -(-nullable // 8) + 13 + (0 if table.primary else 6)  # header, NULL bits, transaction, row id
    leaves = 1
    page: list[int] = []  # bytes of each row of the last page
    used = 0
    for row in table.rows:
        size = fixed + sum(
            _value_bytes(c, v) for c, v in zip(table.columns, row, strict=True) if v is not None
        )
        # 132 bytes frame a page, and every fourth row takes a slot of two bytes in its directory.
        free = PAGE - 132 - used - (2 * len(page) + 5) // 4
        if size > free or (len(page) >= 2 and size + PAGE // 16 > free):
            page = page[len(page) // 2 :] if leaves == 1 else []
            leaves += 1
            used = sum(page)
        page.append(size)
        used += size
    return PAGE * (leaves + (leaves > 1))


def _value_bytes(column: Column, value: Any) -> int:
    kind, base = column.kind, column.base
    if kind == "dec":
        return (int(m[1]) if (m := re.search(r"\((\d+)", column.type)) else 10) // 2 + 1
    if kind not in ("str", "bytes"):
        return _WIDTHS.get(base, 4)
    if base in ("enum", "set"):
        return 1
    size = len(str(value).encode())
    if base == "char":
        size = max(size, _characters(column) or 1)
    long = base.endswith("text") or 4 * (_characters(column) or 1) > 255
    return size + (2 if long and size > 127 else 1)


def _characters(column: Column) -> int | None:
    """Most characters that a text column holds."""
    if column.kind != "str":
        return None
    return int(m[1]) if (m := re.search(r"\((\d+)", column.type)) else 65535


def information_schema(dbs: dict[str, dict[str, Table]]) -> dict[str, Table]:
    """The views that describe the databases, rows in the order in which the server reads them."""

    def made(name: str, columns: str, rows: Rows) -> Table:
        kinds = {"i": "bigint unsigned", "d": "timestamp", "t": "varchar(64)", "b": "mediumtext"}
        parts = [c.rsplit(":", 1) if ":" in c else (c, "t") for c in columns.split()]
        return Table("information_schema", name, [Column(n, kinds[k]) for n, k in parts], rows=rows)

    tables: Rows = []
    columns: Rows = []
    usage: Rows = []
    constraints: Rows = []
    references: Rows = []
    statistics: Rows = []
    for db, found in dbs.items():
        for name, table in sorted(found.items()):
            if db == "information_schema":
                continue
            tables.append(_table(db, name, table))
            for i, c in sorted(enumerate(table.columns, 1), key=lambda p: p[1].name.lower()):
                columns.append(_column(db, name, table, i, c))
            for key in table.keys:
                if key.unique:
                    kind = "PRIMARY KEY" if key.name == "PRIMARY" else "UNIQUE"
                    constraints.append(("def", db, key.name, db, name, kind, "YES"))
                    usage.extend(
                        ("def", db, key.name, "def", db, name, c, i, None, None, None, None)
                        for i, c in enumerate(key.columns, 1)
                    )
                for number, (entry, null) in enumerate(
                    zip(index_entries(table, key), _nulls(table, key), strict=True), 1
                ):
                    statistics.append(
                        ("def", db, name, int(not key.unique), db, key.name, number, key.columns[number - 1], "A", entry, None, None, null, "BTREE",
                         "", "", "YES", None)
                    )  # fmt: skip
            for title, cs, other, others in table.foreign:
                constraints.append(("def", db, title, db, name, "FOREIGN KEY", "YES"))
                references.append(
                    ("def", db, title, "def", db, _referenced(found.get(other), others), "NONE", "NO ACTION", "NO ACTION", name, other)
                )  # fmt: skip
                usage.extend(
                    ("def", db, title, "def", db, name, c, i, i, db, other, o)
                    for i, (c, o) in enumerate(zip(cs, others, strict=True), 1)
                )
    own = sorted({*dbs, *SYSTEM})
    schemata: Rows = [("def", n, "utf8mb4", "utf8mb4_general_ci", None, "NO") for n in own]
    views = {
        table.name: table
        for table in (
            made("tables", "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME TABLE_TYPE ENGINE VERSION:i ROW_FORMAT TABLE_ROWS:i AVG_ROW_LENGTH:i DATA_LENGTH:i MAX_DATA_LENGTH:i INDEX_LENGTH:i DATA_FREE:i AUTO_INCREMENT:i CREATE_TIME:d UPDATE_TIME:d CHECK_TIME:d TABLE_COLLATION CHECKSUM:i CREATE_OPTIONS TABLE_COMMENT", [*_system(), *tables]),
            made("columns", "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME COLUMN_NAME ORDINAL_POSITION:i COLUMN_DEFAULT:b IS_NULLABLE DATA_TYPE:b CHARACTER_MAXIMUM_LENGTH:i CHARACTER_OCTET_LENGTH:i NUMERIC_PRECISION:i NUMERIC_SCALE:i DATETIME_PRECISION:i CHARACTER_SET_NAME COLLATION_NAME COLUMN_TYPE:b COLUMN_KEY EXTRA PRIVILEGES COLUMN_COMMENT GENERATION_EXPRESSION:b SRS_ID:i", columns),
            made("schemata", "CATALOG_NAME SCHEMA_NAME DEFAULT_CHARACTER_SET_NAME DEFAULT_COLLATION_NAME SQL_PATH DEFAULT_ENCRYPTION", schemata),
            made("key_column_usage", "CONSTRAINT_CATALOG CONSTRAINT_SCHEMA CONSTRAINT_NAME TABLE_CATALOG TABLE_SCHEMA TABLE_NAME COLUMN_NAME ORDINAL_POSITION:i POSITION_IN_UNIQUE_CONSTRAINT:i REFERENCED_TABLE_SCHEMA REFERENCED_TABLE_NAME REFERENCED_COLUMN_NAME", usage),
            made("table_constraints", "CONSTRAINT_CATALOG CONSTRAINT_SCHEMA CONSTRAINT_NAME TABLE_SCHEMA TABLE_NAME CONSTRAINT_TYPE ENFORCED", constraints),
            made("referential_constraints", "CONSTRAINT_CATALOG CONSTRAINT_SCHEMA CONSTRAINT_NAME UNIQUE_CONSTRAINT_CATALOG UNIQUE_CONSTRAINT_SCHEMA UNIQUE_CONSTRAINT_NAME MATCH_OPTION UPDATE_RULE DELETE_RULE TABLE_NAME REFERENCED_TABLE_NAME", references),
            made("statistics", "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME NON_UNIQUE:i INDEX_SCHEMA INDEX_NAME SEQ_IN_INDEX:i COLUMN_NAME COLLATION CARDINALITY:i SUB_PART:i PACKED NULLABLE INDEX_TYPE COMMENT INDEX_COMMENT IS_VISIBLE EXPRESSION", statistics),
            made("views", "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME VIEW_DEFINITION:b CHECK_OPTION IS_UPDATABLE DEFINER SECURITY_TYPE CHARACTER_SET_CLIENT COLLATION_CONNECTION", []),
            made("check_constraints", "CONSTRAINT_CATALOG CONSTRAINT_SCHEMA CONSTRAINT_NAME CHECK_CLAUSE:b", []),
            made("triggers", "TRIGGER_CATALOG TRIGGER_SCHEMA TRIGGER_NAME EVENT_MANIPULATION EVENT_OBJECT_CATALOG EVENT_OBJECT_SCHEMA EVENT_OBJECT_TABLE ACTION_ORDER:i ACTION_CONDITION ACTION_STATEMENT:b ACTION_ORIENTATION ACTION_TIMING ACTION_REFERENCE_OLD_TABLE ACTION_REFERENCE_NEW_TABLE ACTION_REFERENCE_OLD_ROW ACTION_REFERENCE_NEW_ROW CREATED:d SQL_MODE DEFINER CHARACTER_SET_CLIENT COLLATION_CONNECTION DATABASE_COLLATION", []),
        )
    }  # fmt: skip
    views["columns"].keys.append(Key(ORDINAL, ("TABLE_SCHEMA", "TABLE_NAME", "ORDINAL_POSITION"), False))
    views["tables"].keys.append(Key(ORDINAL, ("TABLE_SCHEMA", "TABLE_NAME"), False))
    return views


def _table(db: str, name: str, table: Table) -> tuple[Any, ...]:
    auto = re.search(r"AUTO_INCREMENT=(\d+)", table.options)
    rows = len(table.rows) if table.counted else 0
    size = data_length(table) if table.counted else PAGE
    indexes = PAGE * sum(key.name != "PRIMARY" for key in table.keys)
    return (
        "def", db, name, "BASE TABLE", "InnoDB", 10, "Dynamic", rows, size // rows if rows else 0, size, 0, indexes, 0, int(auto[1]) if auto else None,
        table.created, None, None, "utf8mb4_general_ci", None, "", "",
    )  # fmt: skip


def table_status(db: str, name: str, table: Table) -> tuple[Any, ...]:
    """A row of SHOW TABLE STATUS, which is one of TABLES (MySQL 8.0 manual, 15.7.7.38)."""
    row = _table(db, name, table)
    created = dt.datetime.fromisoformat(row[14]) if isinstance(row[14], str) else row[14]
    return (row[2], *row[4:14], created, *row[15:])


def _column(db: str, name: str, table: Table, number: int, c: Column) -> tuple[Any, ...]:
    text = c.kind == "str"
    width = _characters(c)
    octets = None if width is None else width if c.base == "text" else width * 4
    precision = {"int": 10, "double": 22, "float": 12}.get(c.kind)
    if c.kind in ("dec", "float") and (m := re.search(r"\((\d+)", c.type)):
        precision = int(m[1])
    return (
        "def", db, name, c.name, number, c.default, "YES" if c.nullable else "NO", c.base, width, octets, precision, 0 if c.kind == "int" else c.scale,
        0 if c.kind == "datetime" else None, "utf8mb4" if text else None, "utf8mb4_general_ci" if text else None, c.type, table.column_key(c.name),
        c.extra, "select,insert,update,references", "", "", None,
    )  # fmt: skip


def index_entries(table: Table, key: Key) -> list[int]:
    """For each part of an index: how many different values it and the parts before it have."""
    names = [c.name.lower() for c in table.columns]
    at = [names.index(c.lower()) for c in key.columns]
    return [len({tuple(row[i] for i in at[:n]) for row in table.rows}) for n in range(1, len(at) + 1)]


def _nulls(table: Table, key: Key) -> list[str]:
    nullable = {c.name.lower(): c.nullable for c in table.columns}
    return ["YES" if nullable[c.lower()] else "" for c in key.columns]


def _referenced(table: Table | None, columns: tuple[str, ...]) -> str | None:
    wanted = [c.lower() for c in columns]
    for key in table.keys if table is not None else ():
        if key.unique and [c.lower() for c in key.columns] == wanted:
            return key.name
    return None


def _system() -> Rows:
    """The server's own tables, in TABLES, in the order in which they were made."""

    def views(*steps: int) -> Rows:
        return [
            ("def", "information_schema", name, "SYSTEM VIEW", None, 10, None, *[0] * 6, None, INITIALISED.format(step), *[None] * 4, "", "")
            for step in steps
            for name in VIEWS[step].split()
        ]  # fmt: skip

    performance: Rows = []
    for word in PERFORMANCE.split():
        name, _, rows = word.partition(":")
        form = "Fixed" if rows.endswith("!") else "Dynamic"
        performance.append(
            ("def", "performance_schema", name, "BASE TABLE", "PERFORMANCE_SCHEMA", 10, form, int(rows.rstrip("!")), *[0] * 5, None,
             INITIALISED.format(32), None, None, "utf8mb4_0900_ai_ci", None, "", "")
        )  # fmt: skip
    mysql: Rows = [
        ("def", "mysql", name, "BASE TABLE", "InnoDB", 10, "Dynamic", 0, 0, PAGE, 0, 0, 256 * PAGE, None, INITIALISED.format(33), None, None,
         "utf8mb3_general_ci", None, "row_format=DYNAMIC stats_persistent=0", "")
        for name in MYSQL.split()
    ]  # fmt: skip
    sys: Rows = [
        ("def", "sys", name, "VIEW", *[None] * 10, INITIALISED.format(34), *[None] * 5, "VIEW")
        if name != "sys_config"
        else ("def", "sys", name, "BASE TABLE", "InnoDB", 10, "Dynamic", 6, PAGE // 6, PAGE, 0, 0, 0, None, INITIALISED.format(34), None, None,
              "utf8mb4_0900_ai_ci", None, "", "")
        for name in SYS.split()
    ]  # fmt: skip
    return [*mysql[:2], *views(32), *performance, *mysql[2:], *sys, *views(34, 36)]
