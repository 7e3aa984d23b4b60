"""MySQL's rules on small tables of our own: what the manual says, statement by statement."""

from __future__ import annotations

import datetime as dt
import gc
import re
import sqlite3
import subprocess
import sys
import weakref
from decimal import Decimal as D
from random import Random
from typing import Any
from unittest.mock import Mock

import pytest

from prosegym.envs.errors import CorruptData
from prosegym.envs.sql import engine
from prosegym.envs.sql.engine import WORK, Server
from prosegym.envs.sql.functions import like_pattern
from prosegym.envs.sql.patience import effort
from prosegym.envs.sql.schema import fold, read_dump
from prosegym.envs.sql.sorting import filesort

DUMP = """
CREATE DATABASE `shop`;
USE `shop`;
DROP TABLE IF EXISTS `kinds`;
CREATE TABLE `kinds` (
  `id` int NOT NULL AUTO_INCREMENT,
  `Title` varchar(20) COLLATE utf8mb4_general_ci DEFAULT NULL,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB AUTO_INCREMENT=4 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
INSERT INTO `kinds` VALUES (3,'Tool'),(1,'Toy'),(2,'Caf\u00e9');
CREATE TABLE `items` (
  `code` char(3) COLLATE utf8mb4_general_ci NOT NULL DEFAULT '',
  `kind_id` int DEFAULT NULL,
  `Name` text COLLATE utf8mb4_general_ci,
  `price` decimal(10,2) DEFAULT NULL,
  `weight` float DEFAULT NULL,
  `size` double DEFAULT NULL,
  `rate` float(4,1) DEFAULT NULL,
  `made` datetime DEFAULT NULL,
  `sold` date DEFAULT NULL,
  `year` text COLLATE utf8mb4_general_ci,
  PRIMARY KEY (`code`),
  KEY `kind_key` (`kind_id`),
  CONSTRAINT `kind_key` FOREIGN KEY (`kind_id`) REFERENCES `kinds` (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
INSERT INTO `items` VALUES ('B1',1,'ball','9.50',1.1,0.5,2.5,'2020-03-01 10:00:00','2020-05-06','1999'),
('A1',3,'Axe','20.25',3.3,1.5,7.1,NULL,'2021-12-31','2008 a'),('C1',1,'don\\'t; \\"x\\"',NULL,NULL,NULL,NULL,'2019-01-02 03:04:05',NULL,NULL),
('D1',3,'AXE ','1.00',0.1,2.0,1.0,'2022-02-02 00:00:00','2020-05-06','12');
CREATE DATABASE `other`;
USE `other`;
CREATE TABLE `pairs` (
  `a` int NOT NULL,
  `b` int NOT NULL,
  PRIMARY KEY (`a`,`b`),
  KEY `b_key` (`b`)
) ENGINE=InnoDB;
INSERT INTO `pairs` VALUES (1,9),(2,8),(3,7);
"""


@pytest.fixture(scope="module")
def server() -> Server:
    return Server(read_dump(DUMP))


def rows(server: Server, statement: str) -> Any:
    answer = server.run(statement, "shop")
    assert answer.error is None, answer.error
    return answer.rows


def error(server: Server, statement: str) -> str:
    answer = server.run(statement, "shop")
    assert answer.error is not None, answer.rows
    return answer.error


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        # Types.
        ("SELECT COUNT(*), SUM(kind_id), AVG(kind_id) FROM items", [(4, D("8"), D("2.0000"))]),
        ("SELECT SUM(price), AVG(price), MAX(price) FROM items", [(D("30.75"), D("10.250000"), D("20.25"))]),
        ("SELECT price FROM items WHERE code = 'B1'", [(D("9.50"),)]),
        ("SELECT weight, rate FROM items WHERE code = 'B1'", [(1.1, 2.5)]),
        ("SELECT AVG(size), SUM(size) FROM items", [(4.0 / 3, 4.0)]),
        ("SELECT AVG(rate) FROM items", [(3.53333,)]),
        ("SELECT made, sold FROM items WHERE code = 'B1'", [(dt.datetime(2020, 3, 1, 10), dt.date(2020, 5, 6))]),
        ("SELECT 7 / 2, 7 DIV 2, -7 DIV 2, 7 % 3, 1 / 0, 7 MOD 4", [(D("3.5000"), 3, -3, 1, None, 3)]),
        ("SELECT 1 + 1.50, 2 * 1.25, 1 + '2x', '3' * 4", [(D("2.50"), D("2.50"), 3.0, 12.0)]),
        ("SELECT ROUND(2.5), ROUND(-2.5), ROUND(1.005, 2), ROUND(7 / 3, 1)", [(D("3"), D("-3"), D("1.01"), D("2.3"))]),
        ("SELECT 1 = 1, NOT 1, NULL = NULL, NULL <=> NULL, 2 IS NOT NULL, 0 IS FALSE", [(1, 0, None, 1, 1, 1)]),
        ("SELECT CAST('12abc' AS SIGNED), CAST(2.6 AS UNSIGNED), CAST('1.239' AS DECIMAL(5,2))", [(12, 3, D("1.24"))]),
        ("SELECT SUM(year), MAX(year) FROM items", [(4019.0, "2008 a")]),
        # Quoting.
        ('SELECT "a""b", \'it\'\'s\', \'a\\nb\', `code` FROM items LIMIT 1', [('a"b', "it's", "a\nb", "B1")]),
        ("SELECT 'a' 'b' -- comment\n, 1 # another\n", [("ab", 1)]),
        ("SELECT 1 /* no */ + /*! 1 */ 1", "syntax"),
        ("SELECT 1 && 0 || 1", [(1,)]),
        ("SELECT 1 -- note; and more\n; ;\t\n;", [(1,)]),
        # The star of COUNT(*) reads no column: `items` is read by its index on `kind_id`, which gives the groups their order.
        ("SELECT kinds.*, COUNT(*) FROM kinds JOIN items ON kinds.id = items.kind_id GROUP BY kinds.id", [(1, "Toy", 2), (3, "Tool", 2)]),
        # So it is where NATURAL finds no column that both have.
        ("SELECT kind_id FROM items NATURAL JOIN kinds", [(1,)] * 6 + [(3,)] * 6),
        # VALUES and TABLE as derived tables; index hints, by name or its beginning.
        ("SELECT b, t.a + 1 FROM (VALUES ROW(1,'x'), ROW(2,'y')) AS t(a, b) WHERE a > 1", [("y", 3)]),
        ("SELECT COUNT(*) FROM (TABLE items LIMIT 3) t WHERE code < 'C'", [(2,)]),
        ("SELECT COUNT(*) FROM items i USE INDEX () IGNORE KEY (`PRIMARY`, Kind_key, kind)", [(4,)]),
        ("-- note;", None),  # a comment alone is a statement
        ("SELECT 1<=>NULL, 1<>2, 1!=-1, 2>=-2, 1<=2, 1<<2, 8>>1, 1=-1, 1<-1", [(0, 1, 1, 1, 1, 4, 4, 0, 0)]),
        # Collation, padding, conversion.
        ("SELECT code FROM items WHERE Name = 'axe'", [("A1",), ("D1",)]),
        ("SELECT COUNT(DISTINCT Name), MIN(Name) FROM items", [(3, "Axe")]),
        ("SELECT Title FROM kinds WHERE Title = 'CAFE'", [("Caf\u00e9",)]),
        ("SELECT code FROM items WHERE Name LIKE 'AX_'", [("A1",)]),
        ("SELECT code FROM items WHERE Name LIKE '%;%'", [("C1",)]),
        ("SELECT code FROM items WHERE BINARY Name = 'AXE '", [("D1",)]),
        ("SELECT code FROM items WHERE year > 1000", [("A1",), ("B1",)]),
        ("SELECT code FROM items WHERE year > '1000'", [("A1",), ("B1",), ("D1",)]),
        ("SELECT code FROM items WHERE weight = 1.1", []),
        ("SELECT code FROM items WHERE price = 9.5 AND size = 0.5", [("B1",)]),
        ("SELECT code FROM items WHERE sold = '2020-5-6'", [("B1",), ("D1",)]),
        ("SELECT code FROM items WHERE made > '2020-01-01' AND YEAR(made) < 2021", [("B1",)]),
        ("SELECT code FROM items WHERE kind_id IN (1, '3x') AND price IN (1, 9.5)", [("B1",), ("D1",)]),
        # A text of a row that is no date is less than all dates; beside a time it is a text.
        ("SELECT code, made > Name FROM items", [("A1", None), ("B1", 1), ("C1", 1), ("D1", 1)]),
        ("SELECT code FROM items WHERE made <> (SELECT MAX(Title) FROM kinds)", [("B1",), ("C1",), ("D1",)]),
        ("SELECT code FROM items WHERE sold NOT IN (SELECT Title FROM kinds)", [("A1",), ("B1",), ("D1",)]),
        ("SELECT code FROM items WHERE sold BETWEEN Name AND '2020-12-31'", [("B1",), ("D1",)]),
        ("SELECT code FROM items WHERE made < (SELECT Title FROM kinds LIMIT 1)", []),
        ("SELECT code FROM items WHERE sold > SUBSTRING(sold, 1, 7)", [("A1",), ("B1",), ("D1",)]),
        ("SELECT code FROM items WHERE CURTIME() < Name", [("A1",), ("B1",), ("C1",), ("D1",)]),
        ("SELECT code FROM items WHERE TIME(made) < year", [("B1",), ("D1",)]),
        # MIN and MAX know the collation, also over a window.
        ("SELECT code, MAX(Name) OVER (), MIN(Name) OVER (PARTITION BY kind_id ORDER BY code DESC) FROM items ORDER BY 1",
         [("A1", 'don\'t; "x"', "AXE "), ("B1", 'don\'t; "x"', "ball"), ("C1", 'don\'t; "x"', 'don\'t; "x"'), ("D1", 'don\'t; "x"', "AXE ")]),
        ("SELECT MAX(x) OVER () FROM (SELECT 'no' AS x UNION SELECT 'Sky') t", [("Sky",), ("Sky",)]),
        # Functions.
        ("SELECT CONCAT('a', 1, NULL), CONCAT('a', 1.50, 2), CONCAT_WS('-', 'a', NULL, 'b')", [(None, "a1.502", "a-b")]),
        ("SELECT IF(1 > 2, 'x', 'y'), IFNULL(NULL, 3), NULLIF(2, 2), COALESCE(NULL, NULL, 5)", [("y", 3, None, 5)]),
        ("SELECT LEFT('abcd', 2), RIGHT('abcd', 2), SUBSTRING('abcd', 2, 2), SUBSTRING('abcd', -2)", [("ab", "cd", "bc", "cd")]),
        ("SELECT SUBSTRING_INDEX('a.b.c', '.', 2), SUBSTRING_INDEX('a.b.c', '.', -1)", [("a.b", "c")]),
        # A number is a text as it is shown: a DOUBLE 2 without a point, a DECIMAL with all its digits.
        ("SELECT LEFT(size, 2), RIGHT(size, 2), LPAD(size, 3, 0), RPAD(price, 6, size), INSERT(size, 1, 0, price) FROM items WHERE code = 'D1'",
         [("2", "2", "002", "1.0022", "1.002")]),
        ("SELECT REPEAT(1.50, 2), ELT(1, 2, 3), ELT(2, 2, 3.10), SUBSTRING_INDEX(12.50, '.', -1), LEFT('abc', '2'), RIGHT(1234, 2)",
         [("1.501.50", "2", "3.10", "50", "ab", "34")]),
        ("SELECT QUOTE(1.50), MAKE_SET(3, 1.50, 2), REGEXP_SUBSTR(12.50, '[0-9]+$'), SHA2(1.50, 256) = SHA2('1.50', 256)", [("'1.50'", "1.50,2", "50", 1)]),
        ("SELECT LEFT(sold, 4), RIGHT(made, 5), LEFT(NULL, 1), RPAD(NULL, 2, 'a'), QUOTE(NULL) FROM items WHERE code = 'B1'", [("2020", "00:00", None, None, "NULL")]),
        ("SELECT LENGTH('\u00e9'), CHAR_LENGTH('\u00e9'), UPPER('\u00e9'), TRIM('  x '), REPLACE('aa', 'a', 'b')", [(2, 1, "\u00c9", "x", "bb")]),
        ("SELECT YEAR('2020-03-01'), MONTH(sold), DAY(sold), DATE(made) FROM items WHERE code = 'B1'", [(2020, 5, 6, dt.date(2020, 3, 1))]),
        ("SELECT DATE_FORMAT('2020-03-01', '%Y/%m %M %e %W'), DATEDIFF('2020-03-01', '2020-02-28')", [("2020/03 March 1 Sunday", 2)]),
        ("SELECT STR_TO_DATE('May 1, 2013', '%M %d, %Y'), STR_TO_DATE('x', '%Y')", [(dt.date(2013, 5, 1), None)]),
        ("SELECT DATE_ADD('2020-01-31', INTERVAL 1 MONTH), sold + INTERVAL 1 DAY FROM items WHERE code = 'B1'", [("2020-02-29", dt.date(2020, 5, 7))]),
        ("SELECT TIMESTAMPDIFF(YEAR, '2000-05-01', '2020-04-30'), EXTRACT(YEAR FROM '2001-02-03')", [(19, 2001)]),
        # The manual's own examples (MySQL 8.0, chapter 14).
        ("SELECT ADDTIME('2007-12-31 23:59:59', '1 1:1:1'), SUBTIME('10:00:00', '01:00:00')", [("2008-01-02 01:01:00", "09:00:00")]),
        ("SELECT TIMEDIFF('2008-12-31 23:59:59', '2008-12-30 01:01:01')", [(dt.timedelta(hours=46, minutes=58, seconds=58),)]),
        ("SELECT PERIOD_ADD(200801, 2), PERIOD_DIFF(200802, 200703), YEARWEEK('1987-01-01')", [(200803, 11, 198652)]),
        ("SELECT FROM_DAYS(730669), TO_DAYS('2007-10-07'), TO_SECONDS('2009-11-29')", [(dt.date(2000, 7, 3), 733321, 63426672000)]),
        ("SELECT TIME_TO_SEC('22:23:00'), SEC_TO_TIME(2378), MAKETIME(12, 15, 30)",
         [(80580, dt.timedelta(minutes=39, seconds=38), dt.timedelta(hours=12, minutes=15, seconds=30))]),
        ("SELECT CONVERT_TZ('2004-01-01 12:00:00', '+00:00', '+10:00'), FROM_UNIXTIME(1447430881, '%Y %D %M')",
         [(dt.datetime(2004, 1, 1, 22), "2015 13th November")]),
        ("SELECT EXTRACT(YEAR_MONTH FROM '2019-07-02 01:02:03'), EXTRACT(DAY_MINUTE FROM '2019-07-02 01:02:03')", [(201907, 20102)]),
        ("SELECT DATE_ADD('2100-12-31 23:59:59', INTERVAL '1:1' MINUTE_SECOND), DATE_SUB('2025-01-01 00:00:00', INTERVAL '1 1:1:1' DAY_SECOND)",
         [("2101-01-01 00:01:00", "2024-12-30 22:58:59")]),
        ("SELECT DATE_ADD('1900-01-01 00:00:00', INTERVAL '-1 10' DAY_HOUR)", [("1899-12-30 14:00:00",)]),
        ("SELECT CRC32('MySQL'), CONV('a', 16, 2), CONV(-17, 10, -18), BIN(12), OCT(12), BIT_COUNT(29), BIT_LENGTH('text')",
         [(3259397556, "1010", "2D3FGB0B9CG4BD1H", "1100", "14", 4, 32)]),
        ("SELECT SHA1('abc'), UNHEX('4D7953514C'), TO_BASE64('abc'), FROM_BASE64('YWJj'), QUOTE('Don''t!')",
         [("a9993e364706816aba3e25717850c26c9cd0d89d", b"MySQL", "YWJj", b"abc", "'Don\\'t!'")]),
        ("SELECT INET_ATON('10.0.5.9'), INET_NTOA(167773449), MAKE_SET(1 | 4, 'hello', 'nice', 'world')", [(167773449, "10.0.5.9", "hello,world")]),
        ("SELECT REGEXP_SUBSTR('abc def ghi', '[a-z]+', 1, 3), REGEXP_INSTR('dog cat dog', 'cat')", [("ghi", 5)]),
        ("SELECT DEGREES(PI()), RADIANS(90), ATAN(-2, 2), COS(PI()), COT(12)", [(180.0, 1.5707963267948966, -0.7853981633974483, -1.0, -1.5726734063976893)]),
        # 1, 1, 3, 3: mean 2, squared deviations 4 in all.
        ("SELECT VAR_POP(kind_id), VAR_SAMP(kind_id), STDDEV_POP(kind_id), BIT_OR(kind_id), BIT_AND(kind_id), BIT_XOR(kind_id) FROM items",
         [(1.0, 4 / 3, 1.0, 3, 1, 0)]),
        # Windows: named ones, and rows that come as the last window sorted them.
        ("SELECT code, ROW_NUMBER() OVER w, LAG(code) OVER w FROM items WINDOW w AS (ORDER BY size DESC, code)",
         [("D1", 1, None), ("A1", 2, "D1"), ("B1", 3, "A1"), ("C1", 4, "B1")]),
        ("SELECT LAG(sold, 1, 0) OVER (ORDER BY code) FROM items", [("0",), ("2021-12-31",), ("2020-05-06",), (None,)]),
        ("SELECT LEAD(kind_id, 1, 'x') OVER (ORDER BY code) FROM items", [("1",), ("1",), ("3",), ("x",)]),
        ("SELECT LAG(kind_id, 1, 0.5) OVER (ORDER BY code) FROM items", [(D("0.5"),), (D("3.0"),), (D("1.0"),), (D("1.0"),)]),
        ("SELECT LAG(kind_id, 1, size) OVER (ORDER BY code) FROM items", [(1.5,), (3.0,), (1.0,), (1.0,)]),
        ("SELECT LAG(Name, 1, 7) OVER (ORDER BY code) FROM items WHERE kind_id = 3", [("7",), ("Axe",)]),
        ("SELECT {d '2020-01-01'}, {ts '2020-01-01 10:00:00'}, {fn LOWER('A')} FROM {oj kinds k} WHERE k.id = 1", [(dt.date(2020, 1, 1), dt.datetime(2020, 1, 1, 10), "a")]),
        ("SELECT price max FROM items WHERE code = 'A1'", [(D("20.25"),)]),
        ("SELECT kind_id, COUNT(*) FROM items WHERE code = 'Q' GROUP BY kind_id WITH ROLLUP", []),
        ("SELECT kind_id, COUNT(*) FROM items WHERE code = 'Q' GROUP BY kind_id WITH ROLLUP HAVING COUNT(*) = 0", []),
        ("SELECT kind_id FROM items GROUP BY kind_id WITH ROLLUP", [(1,), (3,), (None,)]),
        # ORDER BY without LIMIT says nothing in a part of a set operation.
        ("(SELECT Title FROM kinds ORDER BY Title) UNION ALL (SELECT code FROM items ORDER BY price)", [("Toy",), ("Caf\u00e9",), ("Tool",), ("A1",), ("B1",), ("C1",), ("D1",)]),
        ("(SELECT Title FROM kinds ORDER BY Title) UNION ALL (SELECT code FROM items ORDER BY price DESC LIMIT 2)", [("Toy",), ("Caf\u00e9",), ("Tool",), ("A1",), ("B1",)]),
        ("(SELECT DISTINCT Title FROM kinds ORDER BY id) UNION SELECT 'x'", [("Toy",), ("Caf\u00e9",), ("Tool",), ("x",)]),
        # A constant text's name is the text.
        ("SELECT 'Title', id FROM kinds ORDER BY Title", [("Title", 1), ("Title", 2), ("Title", 3)]),
        # Rows that a window does not tell apart are numbered as they come, or, of one table, as ORDER BY has sorted them.
        ("SELECT code, ROW_NUMBER() OVER (ORDER BY kind_id DESC) FROM items", [("A1", 1), ("D1", 2), ("B1", 3), ("C1", 4)]),
        ("SELECT code, ROW_NUMBER() OVER (PARTITION BY kind_id) FROM items", [("B1", 1), ("C1", 2), ("A1", 1), ("D1", 2)]),
        ("SELECT Name, ROW_NUMBER() OVER (ORDER BY COUNT(*) DESC) FROM items WHERE kind_id = 3 OR code = 'B1' GROUP BY Name", [("Axe", 1), ("ball", 2)]),
        ("SELECT code, ROW_NUMBER() OVER () FROM items ORDER BY price DESC LIMIT 3", [("A1", 1), ("B1", 2), ("D1", 3)]),
        ("SELECT kind_id, ROW_NUMBER() OVER () FROM items GROUP BY kind_id ORDER BY kind_id DESC", [(3, 2), (1, 1)]),
        ("SELECT code, SUM(price) OVER (ORDER BY kind_id ROWS UNBOUNDED PRECEDING) FROM items WHERE price > 1", [("B1", D("9.50")), ("A1", D("29.75"))]),
        ("SELECT code, SUM(price) OVER (ROWS UNBOUNDED PRECEDING) FROM items ORDER BY code DESC LIMIT 3", [("D1", D("1.00")), ("C1", D("1.00")), ("B1", D("10.50"))]),
        ("SELECT code FROM items ORDER BY ROW_NUMBER() OVER (ORDER BY kind_id DESC)", [("A1",), ("D1",), ("B1",), ("C1",)]),
        ("SELECT '/*ties*/', ROW_NUMBER() OVER () FROM kinds WHERE id < 2", [("/*ties*/", 1)]),
        ("SELECT BIT_OR(kind_id), BIT_XOR(kind_id) FROM items WHERE code = 'Q'", [(0, 0)]),
        # A negative number under ORDER BY is a constant, no place in the select list.
        ("SELECT id FROM kinds WHERE id > 1 ORDER BY -1 DESC", [(2,), (3,)]),
        ("SELECT id FROM kinds UNION SELECT 7 ORDER BY -1", [(1,), (2,), (3,), (7,)]),
        # Each of equal rows counts (15.2.8, 15.2.4).
        ("SELECT kind_id FROM items EXCEPT ALL SELECT id FROM kinds", [(1,), (3,)]),
        ("SELECT kind_id FROM items EXCEPT ALL SELECT 1", [(1,), (3,), (3,)]),
        ("SELECT kind_id FROM items INTERSECT ALL SELECT kind_id FROM items WHERE code <> 'B1'", [(1,), (3,), (3,)]),
        # DISTINCT falls away where the group is selected; else ORDER BY may name selected aggregates only.
        ("SELECT DISTINCT Title FROM items JOIN kinds ON kind_id = id GROUP BY Title ORDER BY MAX(price) DESC", [("Tool",), ("Toy",)]),
        ("SELECT DISTINCT MAX(price) FROM items ORDER BY COUNT(*)", [(D("20.25"),)]),
        ("SELECT DISTINCT Title, COUNT(*) n FROM items JOIN kinds ON kind_id = id GROUP BY id ORDER BY n * 2, COUNT(*), Title", [("Tool", 2), ("Toy", 2)]),
        ("SELECT code, SUM(size) OVER (w ORDER BY code) FROM items WINDOW w AS (PARTITION BY kind_id)",
         [("B1", 0.5), ("C1", 0.5), ("A1", 1.5), ("D1", 3.5)]),
        ("SELECT kind_id, RANK() OVER (ORDER BY COUNT(*), MAX(price) DESC) AS r FROM items GROUP BY kind_id ORDER BY r", [(3, 1), (1, 2)]),
        ("SELECT kind_id AS k, RANK() OVER (PARTITION BY kind_id ORDER BY kind_id + 1) FROM items GROUP BY k HAVING k > 1", [(3, 1)]),
        ("SELECT GROUP_CONCAT(code ORDER BY code DESC SEPARATOR '|') FROM items", [("D1|C1|B1|A1",)]),
        ("SELECT CASE kind_id WHEN 1 THEN 'one' ELSE 'more' END FROM items WHERE code = 'A1'", [("more",)]),
        # FLOOR and CEIL of a decimal are whole numbers only where a BIGINT surely holds them (Item_func_int_val::resolve_type).
        ("SELECT FLOOR(AVG(kind_id)), CEIL(kind_id / 2), CEIL(price), FLOOR(AVG(price)), FLOOR(COUNT(*)) FROM items WHERE code = 'B1' GROUP BY code",
         [(1, 1, 10, 9, 1)]),
        ("SELECT FLOOR(SUM(kind_id)), CEIL(SUM(kind_id) / COUNT(*)), FLOOR((COUNT(*) + 1) / 2), CEIL(100 * COUNT(*) / 3), FLOOR(-SUM(price)) FROM items",
         [(D(8), D(2), D(2), D(134), D(-31))]),
        ("SELECT FLOOR(AVG(n)), CEIL(MAX(n) / 3) + 1, FLOOR(n / 2) FROM (SELECT COUNT(*) AS n FROM items) d GROUP BY n", [(D(4), D(3), D(2))]),
        ("SELECT CEIL(ROUND(SUM(price), 1)), FLOOR(IFNULL(SUM(price), 0)), FLOOR(SUM(size)), FLOOR(SUM(price)) / 2 FROM items",
         [(D(31), D(30), 4.0, D("15.0000"))]),
        ("SELECT FLOOR(2.7), CEIL(2.1), ABS(-3), MOD(7, 4), POW(2, 3), SIGN(-2)", [(2, 3, 3, 3, 8.0, -1)]),
        ("SELECT 'abc' REGEXP '^A', 'abc' NOT REGEXP 'x'", [(1, 1)]),
        ("SELECT DATABASE(), VERSION()", [("shop", "8.0.33")]),
        # Joins, subqueries, sets.
        ("SELECT k.Title, COUNT(i.code) FROM kinds k LEFT JOIN items i ON k.id = i.kind_id GROUP BY k.id", [("Toy", 2), ("Caf\u00e9", 0), ("Tool", 2)]),
        ("SELECT k.Title, i.code FROM kinds k LEFT JOIN (items i JOIN kinds l ON l.id = i.kind_id) ON k.id = i.kind_id WHERE k.id < 3 ORDER BY code", [("Caf\u00e9", None), ("Toy", "B1"), ("Toy", "C1")]),
        ("SELECT code FROM items JOIN (kinds LEFT JOIN other.pairs ON b = id) ON id = kind_id GROUP BY code ORDER BY code", [("A1",), ("B1",), ("C1",), ("D1",)]),
        ("SELECT Title FROM kinds WHERE id NOT IN (SELECT kind_id FROM items)", [("Caf\u00e9",)]),
        ("SELECT Title FROM kinds k WHERE EXISTS (SELECT 1 FROM items WHERE kind_id = k.id AND price > 10)", [("Tool",)]),
        ("SELECT code FROM items WHERE price > (SELECT AVG(price) FROM items)", [("A1",)]),
        ("SELECT code FROM items WHERE price >= ALL (SELECT price FROM items WHERE price IS NOT NULL)", [("A1",)]),
        ("SELECT code FROM items WHERE (kind_id, price) IN (SELECT kind_id, MAX(price) FROM items GROUP BY kind_id)", [("A1",), ("B1",)]),
        ("SELECT id FROM kinds UNION SELECT kind_id FROM items", [(1,), (2,), (3,)]),
        ("SELECT id FROM kinds UNION ALL SELECT 9 ORDER BY id DESC LIMIT 2", [(9,), (3,)]),
        ("SELECT id FROM kinds INTERSECT SELECT kind_id FROM items", [(1,), (3,)]),
        ("SELECT id FROM kinds EXCEPT SELECT kind_id FROM items", [(2,)]),
        ("WITH a AS (SELECT id FROM kinds WHERE id > 1) SELECT COUNT(*) FROM a", [(2,)]),
        ("WITH RECURSIVE n AS (SELECT 1 AS v UNION ALL SELECT v + 1 FROM n WHERE v < 4) SELECT SUM(v) FROM n", [(D("10"),)]),
        ("SELECT d.n FROM (SELECT kind_id, COUNT(*) AS n FROM items GROUP BY kind_id) AS d WHERE d.kind_id = 3", [(2,)]),
        ("SELECT code FROM items JOIN kinds ON kind_id = id WHERE Title = 'tool' ORDER BY price", [("D1",), ("A1",)]),
        ("SELECT COUNT(*) FROM items NATURAL JOIN kinds", [(12,)]),
        ("SELECT kind_id, COUNT(*) AS n FROM items GROUP BY kind_id HAVING n > 1 ORDER BY 1 DESC", [(3, 2), (1, 2)]),
        ("SELECT kind_id, COUNT(*) FROM items GROUP BY kind_id WITH ROLLUP", [(1, 2), (3, 2), (None, 4)]),
        ("SELECT code, ROW_NUMBER() OVER (PARTITION BY kind_id ORDER BY price DESC) FROM items WHERE kind_id = 3 ORDER BY code", [("A1", 1), ("D1", 2)]),
        (" UNION ALL ".join(f"SELECT {i % 5}" for i in range(40)), [(i % 5,) for i in range(40)]),
        (" UNION ".join(f"SELECT {i % 9} AS n" for i in range(40)) + " ORDER BY n DESC LIMIT 2", [(8,), (7,)]),
        ("WITH a AS (SELECT 1 AS x UNION SELECT 2), b AS (SELECT x FROM a UNION ALL SELECT x FROM a) SELECT * FROM b UNION SELECT 9", [(1,), (2,), (9,)]),
        ("SELECT ROUND(1.55, 'abc'), ROUND(1.55, '1x'), TRUNCATE(1.55, 'abc'), TRUNCATE(2.55, '')", [(D(2), D("1.6"), D(1), D(2))]),
        ("SELECT ROUND(1.5, 1e30), TRUNCATE(1.25e0, 400), ROUND(15, -400), ROUND(-15, -1)", [(D("1.5"), 1.25, 0, -20)]),
        ("SELECT 1.0/1/1/1/1/1/1/1", [(D("1." + 29 * "0"),)]),
        ("SELECT SUM(1e25 * 1.0), ROUND(20000000000000000000000000000.5) > 1", [(1e25, 1)]),
        ("SELECT YEAR('2020-02-30'), MONTH('2020-13-01'), DAY('2021-02-29'), YEAR('2020-00-00'), MONTH('2020-05-00'), DAY('2020-00-45')", [(None, None, None, 2020, 5, None)]),
        ("SELECT 1 UNION SELECT 2 INTERSECT SELECT 2", [(1,), (2,)]),
        ("SELECT 1 AS n EXCEPT SELECT 2 INTERSECT SELECT 1 UNION ALL SELECT 3 INTERSECT SELECT 3 INTERSECT SELECT 3 ORDER BY n DESC LIMIT 5", [(3,), (1,)]),
        ("(SELECT 1 UNION SELECT 2) INTERSECT SELECT 2", [(2,)]),
        ("SELECT 3 INTERSECT SELECT 3 UNION SELECT 4", [(3,), (4,)]),
        ("SELECT b FROM other.pairs WHERE a = 2", [(8,)]),
        # Order without ORDER BY: clustered index, covering secondary index.
        ("SELECT code FROM items", [("B1",), ("C1",), ("A1",), ("D1",)]),
        ("SELECT code, Name FROM items WHERE price > 0", [("A1", "Axe"), ("B1", "ball"), ("D1", "AXE ")]),
        ("SELECT a FROM other.pairs", [(3,), (2,), (1,)]),
        ("SELECT DISTINCT kind_id FROM items", [(1,), (3,)]),
        # What there is.
        ("SHOW TABLES", [("items",), ("kinds",)]),
        ("SHOW TABLES LIKE 'k%'", [("kinds",)]),
        ("DESCRIBE kinds", [("id", b"int", "NO", "PRI", None, "auto_increment"), ("Title", b"varchar(20)", "YES", "", None, "")]),
        ("SHOW COLUMNS FROM items LIKE 'c%'", [("code", b"char(3)", "NO", "PRI", b"", "")]),
        ("SHOW TABLES FROM shop WHERE Tables_in_shop LIKE 'i%'", [("items",)]),
        ("SHOW FULL TABLES WHERE table_type = 'VIEW'", []),
        ("SHOW COLUMNS FROM items WHERE Field LIKE 's%' AND Type <> 'date'", [("size", b"double", "YES", "", None, "")]),
        ("SHOW COLUMNS FROM items WHERE `Null` = 'NO' OR `Key` = 'MUL' AND `Default` IS NOT NULL", [("code", b"char(3)", "NO", "PRI", b"", "")]),
        ("SHOW INDEX FROM kinds WHERE Key_name <> 'PRIMARY'", []),
        ("SHOW DATABASES WHERE `Database` IN ('shop', 'none')", [("shop",)]),
        ("SELECT column_name FROM information_schema.columns WHERE table_name = 'kinds'", [("id",), ("Title",)]),
        ("SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()", [("items",), ("kinds",)]),
        ("SELECT table_name FROM information_schema.tables WHERE table_schema IN ('shop', 'other')", [("pairs",), ("items",), ("kinds",)]),
        ("SELECT table_name, data_length, index_length FROM information_schema.tables WHERE table_name = 'items'", [("items", 16384, 16384)]),
        ("SELECT table_name, table_type FROM INFORMATION_SCHEMA.TABLES WHERE table_schema = 'information_schema' AND table_name LIKE 'COLL%'",
         [("COLLATION_CHARACTER_SET_APPLICABILITY", "SYSTEM VIEW"), ("COLLATIONS", "SYSTEM VIEW")]),
        ("SELECT constraint_name, unique_constraint_name, table_name, referenced_table_name FROM information_schema.referential_constraints",
         [("kind_key", "PRIMARY", "items", "kinds")]),
        ("SELECT column_name, referenced_table_name, referenced_column_name FROM information_schema.key_column_usage WHERE table_name = 'items'",
         [("code", None, None), ("kind_id", "kinds", "id")]),
        ("SELECT constraint_name, constraint_type FROM information_schema.table_constraints WHERE table_schema = 'shop' AND table_name = 'items'",
         [("PRIMARY", "PRIMARY KEY"), ("kind_key", "FOREIGN KEY")]),
        ("SELECT index_name, column_name, cardinality, nullable FROM information_schema.statistics WHERE table_name = 'items'",
         [("PRIMARY", "code", 4, ""), ("kind_key", "kind_id", 2, "YES")]),
        ("SHOW TABLES FROM information_schema LIKE 'schemata%'", [("SCHEMATA",), ("SCHEMATA_EXTENSIONS",)]),
        # An aggregate that the query its columns come from does not admit belongs to the query it stands in.
        ("SELECT code FROM items i WHERE 3 = (SELECT COUNT(i.kind_id) FROM kinds) ORDER BY code", [("A1",), ("B1",), ("C1",), ("D1",)]),
        ("SELECT code FROM items i WHERE kind_id >= (SELECT AVG(i.kind_id) FROM kinds) AND code < 'C' ORDER BY code", [("A1",), ("B1",)]),
        ("SELECT kind_id FROM items i GROUP BY kind_id HAVING 1 < (SELECT COUNT(i.code) FROM kinds LIMIT 1)", [(1,), (3,)]),
        ("USE other", None),
        ("SET NAMES utf8", None),
        # HAVING with ALL and ANY over groups; HAVING that makes one group of all rows (manual, 15.2.13 and 15.2.15.4).
        ("SELECT kind_id FROM items GROUP BY kind_id HAVING COUNT(*) >= ALL (SELECT COUNT(*) FROM items GROUP BY kind_id)", [(1,), (3,)]),
        ("SELECT kind_id FROM items GROUP BY kind_id HAVING SUM(price) < ANY (SELECT price FROM items)", [(1,)]),
        ("SELECT kind_id FROM items GROUP BY kind_id HAVING COUNT(*) > ALL (SELECT 5 FROM items WHERE 0)", [(1,), (3,)]),
        ("SELECT kind_id FROM items GROUP BY kind_id HAVING COUNT(*) <> ALL (SELECT 2 UNION SELECT 3)", []),
        ("SELECT kind_id FROM items GROUP BY kind_id HAVING MAX(price) >= ALL (SELECT price FROM items)", []),
        ("SELECT d.x FROM (SELECT 1 AS x) d HAVING COUNT(*) > 1", []),
        # What is grouped by is NULL in the sums of WITH ROLLUP, within expressions too, and ORDER BY sorts them (14.19.2).
        ("SELECT IFNULL(kind_id, 'all'), COUNT(*), SUM(kind_id), GROUPING(kind_id) FROM items GROUP BY kind_id WITH ROLLUP",
         [("1", 2, D(2), 0), ("3", 2, D(6), 0), ("all", 4, D(8), 1)]),
        ("SELECT kind_id, COUNT(*) FROM items GROUP BY kind_id WITH ROLLUP HAVING COUNT(*) > 1 ORDER BY COUNT(*) DESC, kind_id DESC", [(None, 4), (3, 2), (1, 2)]),
        # A name within an expression of ORDER BY or GROUP BY, or in an aggregate of HAVING, is a column before it is an alias
        # (Item_field::fix_fields, find_order_in_list).
        ("SELECT code, -price AS price FROM items WHERE price > 1 ORDER BY price + 0", [("B1", D("-9.50")), ("A1", D("-20.25"))]),
        ("SELECT code, -price AS price FROM items WHERE price > 1 ORDER BY price", [("A1", D("-20.25")), ("B1", D("-9.50"))]),
        ("SELECT kind_id AS k FROM items GROUP BY kind_id HAVING MIN(k) > 1", [(3,)]),
        ("SELECT kind_id AS k FROM items GROUP BY kind_id ORDER BY MIN(k) DESC", [(3,), (1,)]),
        ("SELECT COUNT(*), kind_id + 1 AS k FROM items GROUP BY k, k + 1", [(2, 2), (2, 4)]),
        # CTEs that nothing names are not opened (mysql-test/r/with_non_recursive.result).
        ("WITH a AS (SELECT * FROM nothing) SELECT 1", [(1,)]),
        # Real numbers are added one after another (Item_sum_sum::add): compensated, as SQLite adds since 3.43, it is 0.6.
        ("SELECT SUM(x), AVG(x) FROM (SELECT 0.1e0 AS x UNION ALL SELECT 0.2e0 UNION ALL SELECT 0.3e0) d", [(0.6000000000000001, 0.20000000000000004)]),
        # A decimal that a derived table stores has its column's scale (1/7 is 0.1429, 2/7 0.2857, 3/7 0.4286); a table that is
        # merged into the query around it stores nothing (Query_expression::is_mergeable).
        ("SELECT SUM(x) FROM (SELECT a / 7 AS x FROM other.pairs) d", [(D("0.8571"),)]),
        ("SELECT SUM(x) FROM (SELECT a / 7 AS x FROM other.pairs LIMIT 3) d", [(D("0.8572"),)]),
        ("SELECT SUM(x) FROM (SELECT AVG(a / 7) AS x FROM other.pairs GROUP BY a) d", [(D("0.85714286"),)]),
        ("SELECT AVG(x) FROM (SELECT SUM(a) / 7 AS x FROM other.pairs GROUP BY b) d", [(D("0.28573333"),)]),
        ("WITH d AS (SELECT DISTINCT a / 7 AS x FROM other.pairs) SELECT SUM(x), MAX(x) * 7 FROM d", [(D("0.8572"), D("3.0002"))]),
        ("SELECT x * 7 FROM (SELECT MAX(x) AS x FROM (SELECT a / 7 AS x FROM other.pairs) e) d", [(D("3.0002"),)]),
        ("SELECT SUM(x) FROM (SELECT a / 7 AS x, ROW_NUMBER() OVER (ORDER BY a) FROM other.pairs) d", [(D("0.8572"),)]),
        ("SELECT SUM(x) FROM (SELECT a / 7 AS x FROM other.pairs UNION ALL SELECT NULL) d", [(D("0.8572"),)]),
        ("SELECT x * 3 FROM (SELECT 1 / 3 AS x) d", [(D("0.9999"),)]),
        ("SELECT x * 3 FROM (SELECT 1 / 3 AS x UNION SELECT 0.123456) d", [(D("0.999999"),), (D("0.370368"),)]),
        ("SELECT 1 / 3 UNION SELECT 0.3333", [(D("0.3333"),)]),
        ("SELECT a, (SELECT x * 7 FROM (SELECT p.a / 7 AS x LIMIT 1) d) FROM other.pairs p ORDER BY a",
         [(1, D("1.0003")), (2, D("1.9999")), (3, D("3.0002"))]),
        # Decimals are added exactly, so that a mean without a rest is equal to the one that was stored.
        ("SELECT SUM(x) = 0.6, AVG(x) = 0.2, SUM(x) / COUNT(*) = 0.2 FROM (SELECT 0.1 AS x UNION ALL SELECT 0.2 UNION ALL SELECT 0.3) d", [(1, 1, 1)]),
        ("SELECT kind_id FROM items GROUP BY kind_id HAVING AVG(price) = (SELECT MAX(x) FROM (SELECT AVG(price) AS x FROM items GROUP BY kind_id) d)", [(3,)]),
        ("SELECT COUNT(ALL code), MAX(ALL price), COUNT(ALL *) FROM items", [(4, D("20.25"), 4)]),
        ("SELECT (1, 2, 3) < (1, 2, 4), (1, 2) >= (1, 2), (1, NULL) < (2, 1), (1, 2) > (1, NULL)", [(1, 1, 1, None)]),
        ("SELECT id FROM kinds USE INDEX (PRIMARY) ORDER BY id LIMIT 18446744073709551615 OFFSET 2", [(3,)]),
        ("TABLE kinds ORDER BY id DESC LIMIT 1", [(3, "Tool")]),
        ("VALUES ROW(1, 'a'), ROW(2, 'b')", [(1, "a"), (2, "b")]),
        ("SELECT TIME '10:00:00', CURRENT_USER", [(dt.timedelta(hours=10), "admin@%")]),
        # A constant that is a date is read as one where it is compared with a column of dates (14.3).
        ("SELECT code FROM items WHERE made > 20200101 ORDER BY code", [("B1",), ("D1",)]),
        ("SHOW TABLE STATUS LIKE 'items'",
         [("items", "InnoDB", 10, "Dynamic", 4, 4096, 16384, 0, 16384, 0, None, dt.datetime(2023, 5, 15, 5, 53, 41), None, None, "utf8mb4_general_ci", None, "", "")]),
        ("SHOW TRIGGERS FROM shop", []),
        ("SHOW EVENTS LIKE 'x'", []),
        ("SHOW TABLE STATUS WHERE Name LIKE 'k%' AND `Rows` < 3", []),
        # FLOAT(M,D): numbers of fixed digits are equal within half of the last one. 2.5 and 1 are real numbers as they are, 7.1 is not.
        ("SELECT code FROM items WHERE rate = 7.1 AND rate IN (7.1) AND rate = '7.1' AND rate = 71e-1 AND 7.1 <=> rate AND NOT rate <> 7.1", [("A1",)]),
        ("SELECT rate > 7.1, rate >= 7.1, rate < 7.1, rate <= 7.1, rate + 0.05 > 7.1, rate = 7.12 FROM items WHERE code = 'A1'", [(0, 1, 0, 1, 1, 0)]),
        ("SELECT COUNT(*) FROM items HAVING AVG(rate) = 3.53333", [(4,)]),
        ("SELECT code FROM items WHERE rate IN (SELECT 7.1) AND (rate, code) = (7.1, 'A1') AND rate % 4 = 3.1 AND rate BETWEEN 7.1 AND 7.1", [("A1",)]),
        ("SELECT rate IN (7.1, 5), rate BETWEEN 7.0 AND 7.1, CASE rate WHEN 7.1 THEN 1 ELSE 0 END FROM items WHERE code = 'A1'", [(0, 1, 0)]),
        ("SELECT IFNULL(rate, 0), GREATEST(rate, 0.25), IF(1, rate, kind_id) FROM items WHERE code = 'A1'", [(7.1, 7.1, 7.1)]),
        # GROUP_CONCAT(DISTINCT x) comes sorted by x; of rows that ORDER BY finds alike the later comes first.
        ("SELECT GROUP_CONCAT(DISTINCT sold), GROUP_CONCAT(DISTINCT kind_id + 9 SEPARATOR ' '), GROUP_CONCAT(DISTINCT 10 - size, code) FROM items WHERE size",
         [("2020-05-06,2021-12-31", "10 12", "8D1,8.5A1,9.5B1")]),
        ("SELECT GROUP_CONCAT(code ORDER BY kind_id), GROUP_CONCAT(code, kind_id ORDER BY 2 DESC), GROUP_CONCAT(code ORDER BY NULL), SUM(size) FROM items",
         [("C1,B1,D1,A1", "D13,A13,C11,B11", "D1,C1,B1,A1", 4.0)]),
        ("SELECT GROUP_CONCAT(DISTINCT kind_id ORDER BY code DESC), GROUP_CONCAT(DISTINCT kind_id ORDER BY 1 = 1), SUM(size) FROM items", [("1,3", "1,3", 4.0)]),
        # Its length is counted in bytes, and a character is whole or left out.
        ("SELECT LENGTH(GROUP_CONCAT(REPEAT('é', 300))), LENGTH(GROUP_CONCAT(DISTINCT REPEAT('€', 400))) FROM items", [(1023, 1023)]),
        # ANY_VALUE is no aggregate: that of a group is its first row's.
        ("SELECT kind_id, ANY_VALUE(code), COUNT(*) FROM items GROUP BY kind_id ORDER BY ANY_VALUE(code)", [(3, "A1", 2), (1, "B1", 2)]),
        ("SELECT ANY_VALUE(price), ANY_VALUE(MAX(size)), COUNT(*) FROM items", [(D("20.25"), 2.0, 4)]),
        ("SELECT ANY_VALUE(code), kind_id FROM items WHERE ANY_VALUE(kind_id) = 1", [("B1", 1), ("C1", 1)]),
        # Regular expressions: match types, what binary texts and collations change.
        ("SELECT REGEXP_LIKE('abc', 'ABC', 'c'), REGEXP_LIKE('abc', 'ABC', 'ci'), REGEXP_LIKE('a\nb', 'a.b', 'n'), REGEXP_LIKE('a\nb', '^b', 'm'), REGEXP_LIKE('a', 'a', NULL)", [(0, 1, 1, 1, None)]),
        ("SELECT REGEXP_REPLACE('abcABC', 'b', 'x', 1, 0, 'c'), REGEXP_REPLACE('abcabc', 'b', 'x', 3), REGEXP_REPLACE('abcabc', '(b)', '[$1]', 1, 2)", [("axcABC", "abcaxc", "abca[b]c")]),
        ("SELECT REGEXP_SUBSTR('abcABC', 'B', 1, 1, 'c'), REGEXP_INSTR('abcabc', 'b', 3), REGEXP_INSTR('abcabc', 'b', 1, 2), REGEXP_INSTR('abcabc', 'b', 1, 1, 1)", [("B", 5, 5, 3)]),
        ("SELECT 'é' REGEXP '[[:alpha:]]', '!' REGEXP '[[:punct:]]', 'a1' REGEXP '^[[:alnum:]]+$'", [(1, 1, 1)]),
        ("SELECT Name FROM items WHERE BINARY Name REGEXP 'A' AND Name REGEXP 'xe' COLLATE utf8mb4_bin", [("Axe",)]),
        ("SELECT Name FROM items WHERE Name LIKE 'ax%' COLLATE utf8mb4_bin OR Name LIKE BINARY '%X__' OR CAST(Name AS BINARY) LIKE 'b%'", [("ball",), ("AXE ",)]),
        ("SELECT Name FROM items WHERE Name COLLATE utf8mb4_bin IN ('axe', 'ball') OR Name > 'b' COLLATE utf8mb4_bin AND Name = 'BALL'", [("ball",)]),
        ("SELECT FORMAT(1234567.891, 2, 'de_DE'), FORMAT(-1234567.891, 2, 'fr_FR'), FORMAT(1234567.891, 0, 'en_IN'), FORMAT(1234.5, 1, 'de_CH'), FORMAT(1234.5, 1, 'ru_RU'), FORMAT(1234.5, 1, NULL)",
         [("1.234.567,89", "-1234567,89", "12,34,568", "1'234.5", "1 234,5", "1,234.5")]),
        # RAND(n): of a constant one row of numbers for each place, of a column each row's first number.
        ("SELECT RAND(3), RAND(2 + 1), RAND(NULL), RAND(-1), RAND(1.6) FROM kinds WHERE Title LIKE 'To%' ORDER BY id",
         [(0.9057697559760601, 0.9057697559760601, 0.15522042769493574, 0.9050373219931845, 0.6555866465490187),
          (0.37307905813034536, 0.37307905813034536, 0.620881741513388, 0.37014932126752037, 0.12234661925802624)]),
        ("SELECT RAND(kind_id) FROM items WHERE size", [(0.9057697559760601,), (0.40540353712197724,), (0.9057697559760601,)]),
        ("SELECT STR_TO_DATE('Jan 5', '%b %e'), STR_TO_DATE('2018', '%Y'), STR_TO_DATE('2018-05 10', '%Y-%m %H'), STR_TO_DATE('2018-05-03x', '%Y-%m-%d'), STR_TO_DATE('2018-05-03', '%Y-%m-%d %H:%i')",
         [(None, None, None, dt.date(2018, 5, 3), dt.datetime(2018, 5, 3))]),
        ("SELECT CAST('2020-12-31 23:59:59.5' AS DATETIME), CAST('2020-01-02 03:04:05.4' AS DATETIME), CAST('03:04:05.678' AS TIME)",
         [(dt.datetime(2021, 1, 1), dt.datetime(2020, 1, 2, 3, 4, 5), dt.timedelta(hours=3, minutes=4, seconds=6))]),
        ("DESCRIBE TABLE kinds", [(1, "SIMPLE", "kinds", None, "ALL", None, None, None, None, 3, 100.0, None)]),
        ("EXPLAIN SELECT 1", [(1, "SIMPLE", *[None] * 9, "No tables used")]),
        ("SELECT Name, COUNT(*) FROM items WHERE Name = NULL GROUP BY kind_id", []),
        ("SELECT code, SUM(sold) OVER (ORDER BY code), AVG(made) OVER (PARTITION BY code) FROM items WHERE code < 'C'", [("A1", D(20211231), None), ("B1", D(40411737), D("20200301100000.0000"))]),
        ("SELECT id, COUNT(*) FROM kinds WHERE id = (SELECT 3)", [(3, 1)]),
        ("SELECT kind_id IN (SELECT id FROM kinds), ROW_NUMBER() OVER (ORDER BY code) FROM items", [(1, 1), (1, 2), (1, 3), (1, 4)]),
        ("SELECT CAST(AVG(x) AS SIGNED), CAST(AVG(x) AS UNSIGNED), CAST(SUM(x) / 2 AS SIGNED) FROM (SELECT 4 AS x UNION SELECT 5) AS t", [(4, 5, 5)]),
        ("SELECT CAST(2.5 AS SIGNED), CAST(2.5e0 AS SIGNED), 2.5 | 0, 2.5e0 | 0, 3.5e0 ^ 0, '2.7' | 0, 2.5 << 1, ~weight & 7, weight | 0 FROM items WHERE weight > 3", [(3, 2, 3, 2, 4, 2, 6, 4, 3)]),
        ("SELECT YEAR(1001), EXTRACT(DAY FROM 1002), DATE(691231), YEAR(700101), YEAR(100), YEAR(1301), DATEDIFF('2000-10-02', 1001), YEAR('1001')", [(2000, 2, dt.date(2069, 12, 31), 1970, None, None, 1, None)]),
        ("SELECT Title FROM kinds WHERE id > (SELECT kind_id FROM items ORDER BY Title DESC, id LIMIT 1)", [("Café",), ("Tool",)]),
        ("SELECT Title, (SELECT code FROM items ORDER BY Title LIMIT 1) FROM kinds ORDER BY 1", [("Café", "B1"), ("Tool", "B1"), ("Toy", "B1")]),
        ("SELECT MAX(price) FROM items ORDER BY (SELECT Title FROM kinds ORDER BY code LIMIT 1)", [(D("20.25"),)]),
    ],
)  # fmt: skip
def test_answers(server: Server, statement: str, expected: Any) -> None:
    if expected == "syntax":
        assert "syntax" in error(server, statement)
        return
    found = rows(server, statement)
    assert repr(found) == repr(expected)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("0", (0, 0, 0, 0, "0000-00", None)),
        ("0.7", (0, 0, 0, 0, "0000-00", None)),
        ("-0.2", (None, None, None, None, None, None)),
        ("100", (None, None, None, None, None, None)),
        ("102.4", (2000, 1, 2, 1, "2000-01", dt.date(2000, 1, 2))),
        ("10001", (2001, 0, 1, 0, "2001-00", None)),
        ("230100", (2023, 1, 0, 1, "2023-01", None)),
        ("651512", (None, None, None, None, None, None)),
        ("691231", (2069, 12, 31, 4, "2069-12", dt.date(2069, 12, 31))),
        ("691301", (None, None, None, None, None, None)),
        ("991231", (1999, 12, 31, 4, "1999-12", dt.date(1999, 12, 31))),
        ("3540024", (354, 0, 24, 0, "0354-00", None)),
        ("20150000", (2015, 0, 0, 0, "2015-00", None)),
        ("20150230", (None, None, None, None, None, None)),
        ("100000101", (None, None, None, None, None, None)),
        ("101000000", (2000, 1, 1, 1, "2000-01", dt.date(2000, 1, 1))),
        ("150102030405", (2015, 1, 2, 1, "2015-01", dt.date(2015, 1, 2))),
        ("20150102240405", (None, None, None, None, None, None)),
        ("'2015-00-00'", (2015, 0, 0, 0, "2015-00", None)),
        ("'20150100'", (2015, 1, 0, 1, "2015-01", None)),
        ("'0000-00-00'", (None, None, None, None, None, None)),
    ],
)
def test_numbers_as_dates(server: Server, number: str, expected: Any) -> None:
    """A MySQL 8.0.46's answers."""
    parts = "YEAR(n), MONTH(n), DAY(n), EXTRACT(QUARTER FROM n), DATE_FORMAT(n, '%Y-%m'), DATE(n)"
    assert rows(server, f"SELECT {parts} FROM (SELECT {number} AS n) t") == [expected]


SYNTAX = (
    "You have an error in your SQL syntax; check the manual that corresponds to your MySQL server version for the right "
    "syntax to use near "
)
ONE_GROUP = (
    "In aggregated query without GROUP BY, expression #1 of SELECT list contains nonaggregated column 'shop.items.code'; "
    "this is incompatible with sql_mode=only_full_group_by"
)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        # Where the query around it admits no aggregate, it is the subquery's own: of the one row around.
        ("SELECT code FROM items WHERE size = (SELECT MAX(size))", [("A1",), ("B1",), ("D1",)]),
        ("SELECT code FROM items WHERE size > (SELECT AVG(size))", []),
        ("SELECT code FROM items WHERE size IN (SELECT MAX(size) WHERE price < 5)", [("D1",)]),
        ("SELECT code FROM items WHERE Name = (SELECT GROUP_CONCAT(Name)) AND (SELECT COUNT(price)) = 1", [("A1",), ("B1",), ("D1",)]),
        ("SELECT code FROM items WHERE size = (SELECT MAX(size) ORDER BY 1 LIMIT 1)", [("A1",), ("B1",), ("D1",)]),
        ("SELECT kind_id, COUNT(*) FROM items WHERE size >= (SELECT MAX(size)) GROUP BY kind_id", [(1, 1), (3, 2)]),
        # Elsewhere it is that query's, which it makes one of groups.
        ("SELECT (SELECT MAX(size)) FROM items", [(2.0,)]),
        ("SELECT kind_id, (SELECT MAX(size)) FROM items GROUP BY kind_id", [(1, 0.5), (3, 2.0)]),
        ("SELECT code, (SELECT MAX(size)) FROM items", ONE_GROUP),
        ("SELECT code, size - (SELECT AVG(size)) FROM items", ONE_GROUP),
        ("SELECT kind_id, COUNT(*) items GROUP BY kind_id", "Unknown column 'kind_id' in 'field list'"),
        ("SELECT 1 AS a, COUNT(*) GROUP BY a HAVING a = 1", [(1, 1)]),
        ("SELECT COUNT(*) WHERE 0 HAVING COUNT(*) = 0", [(0,)]),
        ("SELECT COUNT(*) GROUP BY 1", "Can't group on 'COUNT(*)'"),
        ("SELECT 1 GROUP BY 2", "Unknown column '2' in 'group statement'"),
        ("SELECT 1 GROUP BY 1 WITH ROLLUP", [(1,), (None,)]),
        ("SELECT (SELECT 1 GROUP BY 1 WITH ROLLUP)", "Subquery returns more than 1 row"),
        ("SELECT 1 AS a HAVING a > 1", []),
        ("SELECT 1 HAVING b > 1", "Unknown column 'b' in 'having clause'"),
        ("SELECT code, (SELECT size HAVING size > 1) FROM items", [("A1", 1.5), ("B1", None), ("C1", None), ("D1", 2.0)]),
        ("SELECT kind_id HAVING items GROUP BY kind_id", SYNTAX + "'GROUP BY kind_id' at line 1"),
        ("SELECT kind_id HAVING FROM items", SYNTAX + "'FROM items' at line 1"),
        ("SELECT kind_id INTO FROM items", SYNTAX + "'FROM items' at line 1"),
        # DISTINCT with HAVING, where rows have no order.
        ("SELECT code FROM items WHERE kind_id IN (SELECT DISTINCT id FROM kinds HAVING id > 2)", [("A1",), ("D1",)]),
        ("SELECT code FROM items WHERE size IN (SELECT DISTINCT size HAVING size > 1)", [("A1",), ("D1",)]),
    ],
)  # fmt: skip
def test_groups_and_aggregates_without_from(server: Server, statement: str, expected: Any) -> None:
    """A MySQL 8.0.46's answers."""
    answer = server.run(statement, "shop")
    assert (answer.rows if answer.error is None else answer.error) == expected


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT IF(kind_id > 1, 1, 0.50), CASE kind_id WHEN 1 THEN 1 WHEN 3 THEN kind_id / 2 END FROM items WHERE size ORDER BY code", "1 1.5000 0.50 1 1 1.5000"),
        ("SELECT IF(COUNT(*) > 1, IF(1, 1, 0.5), AVG(size > 1)) FROM items GROUP BY sold ORDER BY sold", "None 1 1.0000"),
        # A temporary table's column has as many digits for all.
        ("SELECT DISTINCT IF(kind_id > 1, 1, 0.50) FROM items ORDER BY 1", "0.50 1.00"),
        ("SELECT IF(size > 1, 1, 0.50) FROM items WHERE size GROUP BY size ORDER BY size", "0.50 1.00 1.00"),
        ("SELECT IF(kind_id > 1, 1, 0.50) + 0 FROM items WHERE code = 'A1' UNION SELECT IF(1, 2, 0.5)", "1.00 2.00"),
    ],
)  # fmt: skip
def test_a_branch_keeps_its_digits_where_no_table_stores_it(
    server: Server, statement: str, expected: str
) -> None:
    assert [str(value) for row in rows(server, statement) for value in row] == expected.split()


def test_zeros_have_a_sign_where_they_are_real_numbers(server: Server) -> None:
    statement = "SELECT -size * 0, -(size - size), ROUND(-0.4e0), ROUND(-0.4), -0.00, 0 * -1.5, CONCAT(-0.0) FROM items WHERE code = 'B1'"
    assert str(rows(server, statement)) == (
        "[(-0.0, -0.0, -0.0, Decimal('0'), Decimal('0.00'), Decimal('0.0'), '0.0')]"
    )


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("SELECT x FROM items", "Unknown column 'x' in 'field list'"),
        ("SELECT i.x FROM items i", "Unknown column 'i.x' in 'field list'"),
        ("SELECT 1 FROM items WHERE x = 1", "Unknown column 'x' in 'where clause'"),
        ("SELECT 1 FROM items i JOIN kinds k ON i.y = k.z", "Unknown column 'i.y' in 'on clause'"),
        ("SELECT x FROM items i JOIN kinds k ON i.y = k.z", "Unknown column 'x' in 'field list'"),
        ("SELECT code FROM items ORDER BY x", "Unknown column 'x' in 'order clause'"),
        ("SELECT COUNT(*) FROM items GROUP BY x", "Unknown column 'x' in 'group statement'"),
        ("SELECT COUNT(*) FROM items GROUP BY kind_id HAVING x > 1", "Unknown column 'x' in 'having clause'"),
        ("SELECT 1 FROM items WHERE x IN (SELECT id FROM kinds)", "Unknown column 'x' in 'IN/ALL/ANY subquery'"),
        ("SELECT 1 FROM Nothing", "Table 'shop.nothing' doesn't exist"),
        ("SELECT 1 FROM None.t", "Unknown database 'none'"),
        ("(SELECT Title FROM kinds ORDER BY nope) UNION SELECT 'x'", "Unknown column 'nope' in 'order clause'"),
        ("SELECT code FROM items GROUP BY CAST(code AS CHAR)", "Expression #1 of SELECT list is not in GROUP BY clause and contains nonaggregated column 'shop.items.code'"),
        ("SELECT price, RANK() OVER (ORDER BY price) r FROM items GROUP BY r", "Can't group on 'r'"),
        ("SELECT COUNT(*), RANK() OVER (ORDER BY price) r FROM items GROUP BY 2", "Can't group on 'r'"),
        ("SELECT code FROM nothing WHERE Name = 'axe' COLLATE NOCASE", "Unknown collation: 'NOCASE'"),
        ("SELECT code FROM items ORDER BY Name COLLATE utf8_general_ci", "COLLATION 'utf8_general_ci' is not valid for CHARACTER SET 'utf8mb4'"),
        ("SELECT code FROM nothing ORDER BY Name COLLATE latin1_swedish_ci", "Table 'shop.nothing' doesn't exist"),
        # Where a syntax error begins.
        ("SELECT code FROM items ORDER BY code UNION DISTINCT SELECT 'a'", "near 'UNION DISTINCT SELECT 'a'' at line 1"),
        ("SELECT 1 FROM (SELECT 1) NATURAL JOIN items", "Every derived table must have its own alias"),
        ("SELECT 1 FROM (SELECT 1); SELECT 2", "Every derived table must have its own alias"),
        ("SELECT 1 FROM (SELECT 1) AS WHERE 1", "near 'WHERE 1' at line 1"),
        ("SELECT SUM(price) max(price) FROM items", "near 'max(price) FROM items' at line 1"),
        ("SELECT price max (price) FROM items", "near '(price) FROM items' at line 1"),
        ("SELECT 1 FROM items\n```", "near '```' at line 2"),
        ("SELECT {code} FROM items", "near '} FROM items' at line 1"),
        ("SELECT 1 FROM {items}", "near 'items}' at line 1"),
        ("SELECT nope FROM items LIMIT x", "Undeclared variable: x"),
        ("SELECT code FROM items LIMIT 1 OFFSET X", "Undeclared variable: X"),
        ("SELECT code FROM items LIMIT OFFSET 1", "near '1' at line 1"),
        ("SELECT code FROM items LIMIT x + 1", "near '+ 1' at line 1"),
        ("SELECT Name group FROM items", "near 'FROM items' at line 1"),
        ("SELECT Name into FROM items", "near 'FROM items' at line 1"),
        ("SELECT ON.Name FROM items", "Unknown column 'ON.Name' in 'field list'"),
        ("SELECT Name FROM items WHERE NOT.Name", "Unknown column 'NOT.Name' in 'where clause'"),
        ("SELECT order.* FROM items", "near 'order.* FROM items' at line 1"),
        ("SELECT 1 FROM items WHERE kind_id = 1 AND.x", "near 'AND.x' at line 1"),
        ("USE Nowhere", "Unknown database 'nowhere'"),
        ("SHOW TABLES FROM Nowhere", "Unknown database 'nowhere'"),
        ("DESCRIBE Nowhere.t", "Unknown database 'nowhere'"),
        ("SELECT DISTINCT Title FROM items JOIN kinds ON kind_id = id GROUP BY id ORDER BY Title, COUNT(*)", "Expression #2 of ORDER BY clause is not in SELECT list, contains aggregate function; this is incompatible with DISTINCT"),
        ("SELECT DISTINCT Title, COUNT(*) FROM items JOIN kinds ON kind_id = id GROUP BY id ORDER BY COUNT(*) + 1", "Expression #1 of ORDER BY clause is not in SELECT list, contains aggregate function"),
        ("SELECT DISTINCT kind_id FROM items GROUP BY kind_id WITH ROLLUP ORDER BY COUNT(*)", "Expression #1 of ORDER BY clause is not in SELECT list, contains aggregate function"),
        ("DESCRIBE nothing", "Table 'shop.nothing' doesn't exist"),
        ("SHOW COLUMNS FROM items WHERE name = 'code'", "Unknown column 'name' in 'where clause'"),
        ("USE nowhere", "Unknown database 'nowhere'"),
        ("SELECT code FROM items a JOIN items b ON a.code = b.code", "Column 'code' in field list is ambiguous"),
        ("SELECT 1 FROM items JOIN items ON 1", "Not unique table/alias: 'items'"),
        ("SELECT z.* FROM items", "Unknown table 'z'"),
        ("SELECT x FROM items FORCE INDEX (foo)", "Key 'foo' doesn't exist in table 'items'"),
        ("SELECT 1 FROM items a USE INDEX (b), nothing", "Table 'shop.nothing' doesn't exist"),
        ("SELECT 1 FROM items a IGNORE INDEX (foo, PRIMARY, bar)", "Key 'bar' doesn't exist in table 'a'"),
        ("SELECT 1 FROM items FORCE INDEX ()", "near ')' at line 1"),
        ("SELECT 1 FROM (TABLE items)", "Every derived table must have its own alias"),
        # Where there is no table at all, it is the table that is not known.
        ("SELECT items.code", "Unknown table 'items' in field list"),
        ("SELECT 1 WHERE shop.items.code IN (SELECT code FROM items)", "Unknown table 'shop.items' in IN/ALL/ANY subquery"),
        ("SELECT (SELECT items.code)", "Unknown column 'items.code' in 'field list'"),
        ("SELECT items.*", "Unknown table 'items'"),
        ("SELECT *", "No tables used"),
        ("SELECT 1 FROM items WHERE COUNT(*) > 1", "Invalid use of group function"),
        ("SELECT code FROM items WHERE price = (SELECT price FROM items)", "Subquery returns more than 1 row"),
        ("SELECT 1 WHERE 1 IN (SELECT id, Title FROM kinds)", "Operand should contain 1 column(s)"),
        ("SELECT 1 UNION SELECT 1, 2", "The used SELECT statements have a different number of columns"),
        ("SELECT 1 FROM items WHERE kind_id IN (SELECT id FROM kinds LIMIT 1)", "This version of MySQL doesn't yet support 'LIMIT & IN/ALL/ANY/SOME subquery'"),
        ("SELECT 1 FROM (SELECT 1)", "Every derived table must have its own alias"),
        ("SELECT Nothing(1)", "FUNCTION shop.Nothing does not exist"),
        ("EXECUTE[SELECT 1", "near '[SELECT 1' at line 1"),
        ("SELECT GROUP_CONCAT(code ORDER BY 2) FROM items", "Unknown column '2' in 'order clause'"),
        ("SELECT kind_id FROM items GROUP BY kind_id HAVING ANY_VALUE(size) > 1", "Unknown column 'size' in 'having clause'"),
        ("SELECT code FROM items WHERE Name REGEXP '['", "The regular expression contains an unclosed bracket expression."),
        ("SELECT 'a' REGEXP 'b)'", "Mismatched parenthesis in regular expression."),
        ("SELECT REGEXP_SUBSTR('a', '(')", "Mismatched parenthesis in regular expression."),
        ("SELECT REGEXP_INSTR('a', '*a')", "Syntax error in regular expression on line 1, character 1."),
        ("SELECT 'a' REGEXP 'ab\n(+a)'", "Syntax error in regular expression on line 2, character 2."),
        ("SELECT 'a' REGEXP 'a**'", "Syntax error in regular expression on line 1, character 3."),
        ("SELECT 'a' REGEXP ''", "Illegal argument to a regular expression."),
        ("SELECT 'a' REGEXP '^[T-J]'", "The regular expression contains an [x-y] character range where x comes after y."),
        ("SELECT 'a' REGEXP 'a{2,1}'", "The maximum is less than the minumum in a {min,max} interval."),
        ("SELECT REGEXP_LIKE('a', 'a', 'x')", "Incorrect arguments to regexp_like"),
        ("SELECT code FROM items WHERE Name REGEXP BINARY 'A'", "Character set 'utf8mb4_general_ci' cannot be used in conjunction with 'binary' in call to regexp_like."),
        ("SELECT i.kind_id * 4000000000 * 4000000000 FROM items i WHERE size",
         "BIGINT value is out of range in '((`shop`.`i`.`kind_id` * 4000000000) * 4000000000)'"),
        ("SELECT code FROM items WHERE kind_id + 9223372036854775807 > 0", "BIGINT value is out of range in '(`shop`.`items`.`kind_id` + 9223372036854775807)'"),
        ("SELECT ANY_VALUE() FROM items", "Incorrect parameter count in the call to native function 'ANY_VALUE'"),
        # The grammar knows some functions with their arguments (sql/sql_yacc.yy); others are counted, before tables are opened,
        # and named as they were written.
        ("SELECT LEFT('a')", "near ')' at line 1"),
        ("SELECT YEAR(made, 1) FROM items", "near ', 1) FROM items' at line 1"),
        ("SELECT IsNull(a, b) FROM nothing", "Incorrect parameter count in the call to native function 'IsNull'"),
        ("SELECT COUNT(code, Name) FROM items", "near ', Name) FROM items' at line 1"),
        ("SELECT MAX(code, Name) FROM items", "near ', Name) FROM items' at line 1"),
        ("SELECT NVL(code, 1) FROM items", "FUNCTION shop.NVL does not exist"),
        # A space before the parenthesis, or a database before the name, makes a stored function's call of it.
        ("SELECT COUNT (*) FROM items", "near '*) FROM items' at line 1"),
        ("SELECT COUNT (DISTINCT code) FROM items", "near 'DISTINCT code) FROM items' at line 1"),
        ("SELECT SUM (price) OVER () FROM items", "near 'OVER () FROM items' at line 1"),
        ("SELECT Max (x) FROM items", "FUNCTION shop.Max does not exist. Check the 'Function Name Parsing and Resolution' section in the Reference Manual"),
        ("SELECT x, MAX (price) FROM items", "Unknown column 'x' in 'field list'"),
        ("SELECT MAX (price) FROM nothing", "Table 'shop.nothing' doesn't exist"),
        ("SELECT kind_id FROM items GROUP BY kind_id HAVING SUM (price) > 1", "FUNCTION shop.SUM does not exist. Check"),
        ("SELECT SUBSTRING (Name, 1, 2) FROM items", "FUNCTION shop.SUBSTRING does not exist. Check"),
        ("SELECT CAST (price AS SIGNED) FROM nothing", "Incorrect parameters in the call to stored function `CAST`"),
        ("SELECT CAST (price AS CHAR) FROM items", "near 'CHAR) FROM items' at line 1"),
        ("SELECT other.most(code) FROM items", "FUNCTION other.most does not exist"),
        # Keywords that are no functions cannot be called (11.2.5, 11.3).
        ("SELECT FIRST(code) FROM items", "near '(code) FROM items' at line 1"),
        ("SELECT DATETIME('now')", "near '('now')' at line 1"),
        # GROUP BY has had no direction since 8.0.13 (15.2.13).
        ("SELECT code FROM items GROUP BY code DESC", "near 'DESC' at line 1"),
        # Names that two columns of the select list have (find_item_in_list in sql/sql_base.cc).
        ("SELECT a.code, b.code FROM items a JOIN items b ON a.code = b.code GROUP BY code", "Column 'code' in group statement is ambiguous"),
        ("SELECT code AS x, Name AS x FROM items ORDER BY x", "Column 'x' in order clause is ambiguous"),
        # As a published episode shows for HAVING: an aggregate of an alias that is an aggregate.
        ("SELECT code, COUNT(*) AS n FROM items GROUP BY code HAVING n = MIN(n)", "Invalid use of group function"),
        ("SELECT code, COUNT(*) AS n FROM items GROUP BY code ORDER BY MAX(n)", "Invalid use of group function"),
        ("SELECT code, COUNT(*) AS n FROM items GROUP BY code HAVING MIN(x) = 1", "Unknown column 'x' in 'having clause'"),
        ("SELECT 1 FROM items JOIN kinds USING (Kind)", "Unknown column 'Kind' in 'from clause'"),
        # MySQL 8.0 manual, 15.2.18: names of clauses in messages of set operations.
        ("SELECT code FROM items UNION SELECT 1 ORDER BY COUNT(*)", "Expression #1 of ORDER BY contains aggregate function and applies to a UNION, EXCEPT or INTERSECT"),
        ("SELECT 1, 2 UNION SELECT 1 UNION SELECT x", "The used SELECT statements have a different number of columns"),
        ("SELECT 1 FROM items WHERE x = ANY (SELECT y FROM kinds)", "Unknown column 'x' in 'IN/ALL/ANY subquery'"),
        # CTEs: opened where they are first named, seen from what follows them (mysql-test/r/with_non_recursive.result).
        ("WITH a AS (SELECT 1 FROM one), b AS (SELECT 1 FROM two) SELECT 1 FROM b JOIN a", "Table 'shop.two' doesn't exist"),
        ("WITH b AS (SELECT x FROM a), a AS (SELECT 1 AS x) SELECT * FROM b", "Table 'shop.a' doesn't exist"),
        ("WITH a AS (SELECT 1), a AS (SELECT 2) SELECT * FROM a", "Not unique table/alias: 'a'"),
        # Windows (mysql-test/r/window_functions.result, share/messages_to_clients.txt; Group_check::check_query for the last).
        ("SELECT kind_id, COUNT(*) AS n, RANK() OVER (ORDER BY n DESC) FROM items GROUP BY kind_id", "Unknown column 'n' in 'window order by'"),
        ("SELECT RANK() OVER (PARTITION BY x ORDER BY y) FROM items", "Unknown column 'x' in 'window partition by'"),
        ("SELECT RANK() OVER (ORDER BY code), x FROM items", "Unknown column 'x' in 'field list'"),
        ("SELECT RANK() OVER (ORDER BY RANK() OVER ()) FROM items", "You cannot nest a window function in the specification of window '<unnamed window>'."),
        ("SELECT code, RANK() OVER (ORDER BY price) AS r FROM items HAVING R = 1", "You cannot use the alias 'R' of an expression containing a window function in this context.'"),
        ("SELECT code, 1 + RANK() OVER (ORDER BY price) AS r FROM items HAVING r = 1 AND code > 'A'", "You cannot use the alias 'r' of an expression containing a window function in this context.'"),
        ("SELECT code FROM items HAVING RANK() OVER (ORDER BY code) = 1", "You cannot use the window function 'rank' in this context.'"),
        ("SELECT kind_id, RANK() OVER (ORDER BY price) FROM items GROUP BY kind_id", "Expression #1 of PARTITION BY or ORDER BY clause of window '<unnamed window>' is not in GROUP BY clause and contains nonaggregated column 'shop.items.price'"),
        ("SELECT RANK() OVER (PARTITION BY kind_id ORDER BY COUNT(*), price) FROM items GROUP BY kind_id", "Expression #2 of PARTITION BY or ORDER BY clause of window '<unnamed window>' is not in"),
        ("SELECT RANK() OVER w FROM items GROUP BY kind_id WINDOW w AS (ORDER BY price)", "Expression #1 of PARTITION BY or ORDER BY clause of window 'w' is not in"),
        ("SELECT RANK() OVER (ORDER BY price) FROM items GROUP BY kind_id ORDER BY size", "Expression #1 of ORDER BY clause is not in GROUP BY clause and contains nonaggregated column 'shop.items.size'"),
        ("SELECT SUM(price) OVER (ORDER BY price) FROM items GROUP BY kind_id", "Expression #1 of SELECT list is not in GROUP BY clause and contains nonaggregated column 'shop.items.price'"),
        ("SELECT COUNT(*), RANK() OVER (ORDER BY price) FROM items", "In aggregated query without GROUP BY, expression #1 of PARTITION BY or ORDER BY clause of window '<unnamed window>' contains nonaggregated column 'shop.items.price'"),
        # Of several statements the server answers the first before the client refuses them all.
        ("SELECT x FROM items; SELECT 1", "Unknown column 'x' in 'field list'"),
        ("SELECT code FROM items WHERE price = (SELECT price FROM items); SELECT 1", "Subquery returns more than 1 row"),
        ("USE nowhere; SHOW TABLES", "Unknown database 'nowhere'"),
        # Sentences that begin as statements do.
        ("Check the table", "near 'the table' at line 1"),
        ("Create a query", "near 'a query' at line 1"),
        ("Set the query", "near 'query' at line 1"),
        ("Get the names", "near 'the names' at line 1"),
        ("Table items has", "near 'has' at line 1"),
        # What the parser refuses comes before tables are opened.
        ("SELECT 1 FROM nothing WHERE x IN (SELECT id FROM kinds LIMIT 1)", "This version of MySQL doesn't yet support 'LIMIT & IN/ALL/ANY/SOME subquery'"),
        ("SELECT 1 FROM nothing a JOIN kinds a", "Not unique table/alias: 'a'"),
        # An aggregate that no query around it admits comes before its argument, but after what stands before it.
        ("SELECT 1 FROM items WHERE SUM(x) > 1", "Invalid use of group function"),
        ("SELECT 1 FROM items i JOIN kinds k ON i.y = k.id AND COUNT(k.z) = 2", "Unknown column 'i.y' in 'on clause'"),
        ("SELECT 1 FROM items i JOIN kinds k ON COUNT(k.z) = 2 AND i.y = k.id", "Invalid use of group function"),
        ("SELECT code FROM items ORDER BY code, COUNT(*)", "Expression #2 of ORDER BY contains aggregate function and applies to the result of a non-aggregated query"),
        ("SELECT code FROM items ORDER BY COUNT(x)", "Unknown column 'x' in 'order clause'"),
        ("SELECT MIN(price), Code FROM Items", "In aggregated query without GROUP BY, expression #2 of SELECT list contains nonaggregated column 'shop.Items.code'; this is incompatible with sql_mode=only_full_group_by"),
        ("SELECT 1; SELECT 2", "Use multi=True when executing multiple statements"),
        # What follows a semicolon is another statement, be it a comment (found_semicolon in sql/sql_yacc.yy).
        ("SELECT 1; -- note", "Use multi=True when executing multiple statements"),
        ("SELECT 1; # note", "Use multi=True when executing multiple statements"),
        ("SELECT 1; /* note */ ;", "Use multi=True when executing multiple statements"),
        ("SELECT 1;; SELECT 2", "Use multi=True when executing multiple statements"),
        ("SELECT x FROM items; -- note", "Unknown column 'x' in 'field list'"),
        ("  ; ", "Query was empty"),
        (" ;; ;\n", "Query was empty"),
        # Blanks before a statement, and blanks and `;` after it, are cut before it is read.
        ("SELECT code FROM items WHERE;", "near '' at line 1"),
        ("SELECT COUNT(* FROM items ; ;;\n", "near 'FROM items' at line 1"),
        ("\n\n SELECT code\n FRM items;", "near 'items' at line 2"),
        ("SELECT code FROM items WHERE; SELECT 1;", "near '; SELECT 1' at line 1"),
        (";; SELECT 1", "near ';; SELECT 1' at line 1"),
        ("SELECT 'open ;", "near ''open' at line 1"),
        ("SELECT 1 /* open;", "near '/* open' at line 1"),
        ("SELECT COUNT(* FROM items -- ;", "near 'FROM items --' at line 1"),
        ("SELECT * FORM items", "near 'FORM items' at line 1"),
        ("SELECT *\nFROM items WHERE", "near '' at line 2"),
        ("SELECT AVG(rank) FROM items", "near ') FROM items' at line 1"),
        # Signs of comparison are read together (MY_LEX_CMP_OP in sql/sql_lex.cc).
        ("SELECT 1 FROM items WHERE price == 5", "near '== 5' at line 1"),
        ("SELECT 1 FROM items WHERE price => 5", "near '=> 5' at line 1"),
        ("SELECT 1 FROM items WHERE price=<5", "near '=<5' at line 1"),
        ("SELECT 1 FROM items WHERE price <>!0", "near '<>!0' at line 1"),
        ("DELETE FROM items WHERE price == 5", "near '== 5' at line 1"),
        ("SELECT 'open", "near ''open' at line 1"),
        ("SELECT Name, COUNT(*) FROM items GROUP BY kind_id", "Expression #1 of SELECT list is not in GROUP BY clause and contains nonaggregated column 'shop.items.Name' which is not functionally dependent"),
        ("SELECT Name, COUNT(*) FROM items", "In aggregated query without GROUP BY, expression #1 of SELECT list contains nonaggregated column 'shop.items.Name'"),
        ("SELECT DISTINCT code FROM items ORDER BY price", "Expression #1 of ORDER BY clause is not in SELECT list, references column 'shop.items.price'"),
        ("SELECT 1 FROM items WHERE made = 'soon'", "Incorrect DATETIME value: 'soon'"),
        ("SELECT Name, COUNT(*) FROM items WHERE Name <=> 'axe' GROUP BY kind_id", "Expression #1 of SELECT list is not in GROUP BY clause and contains nonaggregated column 'shop.items.Name'"),
        ("SELECT COUNT(*) FROM items GROUP BY count( * )", "Can't group on 'COUNT(*)'"),
        ("SELECT MAX(price) AS top FROM items GROUP BY MAX(price)", "Can't group on 'top'"),
        ("SELECT Name FROM items GROUP BY COUNT(*)", "Invalid use of group function"),
        ("SELECT Name, COUNT(*) FROM items GROUP BY code WITH ROLLUP", "Expression #1 of SELECT list is not in GROUP BY clause and contains nonaggregated column 'shop.items.Name'"),
        ("SELECT kind_id, Name, COUNT(*) FROM items WHERE Name = 'axe' GROUP BY kind_id WITH ROLLUP", "Expression #2 of SELECT list is not in GROUP BY clause and contains nonaggregated column 'shop.items.Name'"),
        ("SELECT code, COUNT(*) FROM items WHERE code = (SELECT MAX(code) FROM items)", "In aggregated query without GROUP BY, expression #1 of SELECT list contains nonaggregated column 'shop.items.code'"),
        ("SELECT id, COUNT(*) FROM kinds WHERE id = (SELECT MAX(kind_id) FROM items)", "In aggregated query without GROUP BY, expression #1 of SELECT list contains nonaggregated column 'shop.kinds.id'"),
        ("SELECT Name FROM items WHERE kind_id IN (SELECT id FROM kinds) AND foo = 1", "Unknown column 'foo' in 'IN/ALL/ANY subquery'"),
        ("SELECT Name FROM items WHERE kind_id > ALL (SELECT id FROM kinds) AND (1 OR items.foo = 1)", "Unknown column 'items.foo' in 'IN/ALL/ANY subquery'"),
        ("SELECT kind_id IN (SELECT id FROM kinds), foo FROM items", "Unknown column 'foo' in 'IN/ALL/ANY subquery'"),
        ("SELECT Name FROM items WHERE kind_id IN (SELECT id FROM kinds) ORDER BY foo", "Unknown column 'foo' in 'order clause'"),
        ("SELECT code FROM items a JOIN items b WHERE 1 IN (SELECT 1) AND price > 1", "Column 'code' in field list is ambiguous"),
        ("SELECT id FROM kinds WHERE id IN (SELECT kind_id FROM items) AND COUNT(*) > 1", "Invalid use of group function"),
        ("SELECT S.Items.foo FROM items", "Unknown column 's.Items.foo' in 'field list'"),
        ("SELECT Foo.Bar(1)", "FUNCTION foo.Bar does not exist"),
        ("SELECT items. select FROM items", "near 'select FROM items' at line 1"),
        ("SELECT items.select FROM items", "Unknown column 'items.select' in 'field list'"),
        ("SELECT 1 FROM shop. WHERE 1", "near 'WHERE 1' at line 1"),
        ("SELECT 1 FROM items AS 'a'", "near ''a'' at line 1"),
        ("SELECT * FROM kinds NATURAL JOIN kinds AS k JOIN kinds AS m NATURAL JOIN kinds AS n", "Column 'id' in from clause is ambiguous"),
        ("SELECT * FROM kinds a JOIN kinds b USING (id) JOIN kinds c JOIN kinds d USING (TITLE)", "Column 'Title' in from clause is ambiguous"),
        ("EXECUTE SELECT 1", "near 'SELECT 1' at line 1"),
        ("CALL SELECT", "near 'SELECT' at line 1"),
    ],
)  # fmt: skip
def test_refusals(server: Server, statement: str, message: str) -> None:
    assert message in error(server, statement)


def test_information_schemas_names_are_ordered_by_their_letters_in_lower_case() -> None:
    """There `_` comes before letters, elsewhere after them."""
    tables = "".join(f"CREATE TABLE `{name}` (`a` int);" for name in ("cars_data", "car_makers"))
    server = Server(read_dump(f"CREATE DATABASE `d`; USE `d`; {tables}"))
    asked = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'd' ORDER BY table_name"
    assert server.run(asked, "d").rows == [("car_makers",), ("cars_data",)]
    assert server.run("SELECT 'car_a' AS n UNION SELECT 'cars' ORDER BY n", "d").rows == [
        ("cars",),
        ("car_a",),
    ]


def test_a_timestamp_is_said_to_be_one() -> None:
    """As pingcap/tidb#26399 shows of MySQL 8."""
    young = Server(
        read_dump(
            "USE `a`;\nCREATE TABLE `t` (\n  `made` timestamp NULL\n) ENGINE=InnoDB;\nINSERT INTO `t` VALUES (NULL);"
        )
    )
    assert young.run("SELECT 1 FROM t WHERE made = 'D'", "a").error == "Incorrect TIMESTAMP value: 'D'"


def test_functional_dependence_is_seen(server: Server) -> None:
    assert len(rows(server, "SELECT Title, COUNT(*) FROM kinds JOIN items ON id = kind_id GROUP BY id")) == 2
    assert (
        len(rows(server, "SELECT Title, COUNT(*) FROM kinds JOIN items ON id = kind_id GROUP BY kind_id"))
        == 2
    )
    assert len(rows(server, "SELECT Name, MAX(price) FROM items WHERE Name = 'axe'")) == 1


@pytest.mark.parametrize(
    ("statement", "refused"),
    [
        # USING and NATURAL make columns equal as ON does (mark_common_columns in sql/sql_base.cc).
        ("SELECT a.price, COUNT(*) FROM items a JOIN items b USING (code) GROUP BY b.code", None),
        ("SELECT b.price, COUNT(*) FROM items a JOIN items b USING (code) GROUP BY code", None),
        ("SELECT b.price, COUNT(*) FROM items a NATURAL JOIN items b GROUP BY a.code", None),
        ("SELECT b.price FROM items a LEFT JOIN items b USING (code) GROUP BY a.code", None),
        ("SELECT a.price FROM items a LEFT JOIN items b USING (code) GROUP BY b.code", "a.price"),
        # An outer join's ON says something of its inner side only, and only where all that it names of the other
        # side is known (Group_check::analyze_scalar_eq in sql/aggregate_check.cc).
        ("SELECT Title FROM items LEFT JOIN kinds ON id = kind_id GROUP BY kind_id", None),
        ("SELECT Title FROM kinds RIGHT JOIN items ON id = kind_id GROUP BY kind_id", None),
        ("SELECT Title, COUNT(code) FROM kinds LEFT JOIN items ON id = kind_id GROUP BY kind_id", "kinds.Title"),
        ("SELECT Title FROM items RIGHT JOIN kinds ON id = kind_id GROUP BY kind_id", "kinds.Title"),
        ("SELECT size FROM items LEFT JOIN kinds ON size = 2 GROUP BY id", "items.size"),
        ("SELECT Title FROM items LEFT JOIN kinds ON id = 2 GROUP BY code", None),
        ("SELECT Title FROM items LEFT JOIN kinds ON id = 2 AND price > 1 GROUP BY kind_id", "kinds.Title"),
        ("SELECT Title FROM items LEFT JOIN kinds ON id = kind_id AND price > id GROUP BY kind_id", "kinds.Title"),
        ("SELECT Title FROM items LEFT JOIN kinds ON id = kind_id AND RAND() < 2 GROUP BY kind_id", "kinds.Title"),
        ("SELECT p.b FROM items LEFT JOIN kinds ON id = kind_id LEFT JOIN other.pairs p ON p.b = id GROUP BY kind_id", None),
        # An outer join whose inner side may not be NULL is an inner join by then (simplify_joins).
        ("SELECT Title FROM kinds LEFT JOIN items ON id = kind_id WHERE price > 1 GROUP BY kind_id", None),
        ("SELECT Title FROM kinds LEFT JOIN items ON id = kind_id WHERE price IS NOT NULL GROUP BY kind_id", None),
        ("SELECT Title FROM kinds LEFT JOIN items ON id = kind_id WHERE price > 1 AND id OR price < 1 GROUP BY kind_id", None),
        ("SELECT Title FROM kinds LEFT JOIN items ON id = kind_id JOIN other.pairs ON a = size GROUP BY kind_id", None),
        ("SELECT Title FROM kinds LEFT JOIN items ON id = kind_id LEFT JOIN other.pairs ON a = size WHERE b GROUP BY kind_id", None),
        ("SELECT Title FROM kinds LEFT JOIN items ON id = kind_id WHERE price IS NULL GROUP BY kind_id", "kinds.Title"),
        ("SELECT Title FROM kinds LEFT JOIN items ON id = kind_id WHERE price > 1 OR id = 1 GROUP BY kind_id", "kinds.Title"),
        ("SELECT Title FROM kinds LEFT JOIN items ON id = kind_id WHERE IFNULL(price, 0) < 9 GROUP BY kind_id", "kinds.Title"),
    ],
)  # fmt: skip
def test_functional_dependence_through_joins(server: Server, statement: str, refused: str | None) -> None:
    if refused is None:
        rows(server, statement)
    else:
        part = f"is not in GROUP BY clause and contains nonaggregated column 'shop.{refused}'"
        assert part in error(server, statement)


@pytest.mark.parametrize(
    ("statement", "refused"),
    [
        ("SELECT kind_id, (SELECT Title FROM kinds WHERE id = kind_id) FROM items GROUP BY kind_id", None),
        ("SELECT code, (SELECT Title FROM kinds WHERE id = kind_id) FROM items GROUP BY code", None),
        ("SELECT kind_id, (SELECT COUNT(*) FROM kinds WHERE id > size) FROM items GROUP BY kind_id", "#2 of SELECT list {} 'shop.items.size'"),
        ("SELECT kind_id, 1 + (SELECT COUNT(*) FROM kinds k WHERE k.id > i.size) FROM items i GROUP BY kind_id", "#2 of SELECT list {} 'shop.i.size'"),
        ("SELECT kind_id, (SELECT size) FROM items GROUP BY kind_id", "#2 of SELECT list {} 'shop.items.size'"),
        ("SELECT COUNT(*), (SELECT Title FROM kinds WHERE id = kind_id) FROM items", "#2 of SELECT list {} 'shop.items.kind_id'"),
        ("SELECT COUNT(*), (SELECT MAX(id) FROM kinds) FROM items", None),
        ("SELECT kind_id, EXISTS (SELECT 1 FROM kinds WHERE id = size) FROM items GROUP BY kind_id", "#2 of SELECT list {} 'shop.items.size'"),
        ("SELECT kind_id IN (SELECT id FROM kinds) FROM items GROUP BY kind_id", None),
        ("SELECT kind_id IN (SELECT id FROM kinds WHERE id > size) FROM items GROUP BY kind_id", "#1 of SELECT list {} 'shop.items.size'"),
        ("SELECT kind_id FROM items GROUP BY kind_id ORDER BY (SELECT MAX(id) FROM kinds WHERE id < size)", "#1 of ORDER BY clause {} 'shop.items.size'"),
        ("SELECT (SELECT (SELECT MAX(a) FROM other.pairs WHERE a > size) FROM kinds LIMIT 1) FROM items GROUP BY kind_id", "#1 of SELECT list {} 'shop.items.size'"),
        # A column of the subquery's own comes before one of the query around it.
        ("SELECT code, (SELECT MAX(size) FROM items WHERE price > 1) FROM items GROUP BY code", None),
        # What is grouped by may be the subquery itself.
        ("SELECT (SELECT Title FROM kinds WHERE id = kind_id) AS t, COUNT(*) FROM items GROUP BY t ORDER BY t", None),
        # An aggregate belongs to the query that its columns are of, the innermost of several.
        ("SELECT kind_id, (SELECT COUNT(i.size) FROM kinds LIMIT 1) FROM items i GROUP BY kind_id", None),
        ("SELECT kind_id, (SELECT SUM(id * size) FROM kinds) FROM items GROUP BY kind_id", "#2 of SELECT list {} 'shop.items.size'"),
    ],
)  # fmt: skip
def test_a_subquerys_columns_of_the_query_around_it_must_depend_on_its_groups(
    server: Server, statement: str, refused: str | None
) -> None:
    """Group_check walks into subqueries (WALK_SUBQUERY in sql/aggregate_check.cc)."""
    if refused is None:
        rows(server, statement)
        return
    found = error(server, statement)
    name = refused.rpartition(" ")[2]
    assert refused.partition(" {}")[0].lower() in found.lower() and f"nonaggregated column {name}" in found


def test_lenient_reads_what_sqlite_reads(server: Server) -> None:
    for statement in (
        "SELECT Name, COUNT(*) FROM items GROUP BY kind_id",
        "SELECT COUNT (*) FROM items",
        "SELECT COUNT(*) FROM (SELECT code FROM items)",
    ):
        assert server.run(statement, "shop").error is not None
        assert server.run(statement, "shop", strict=False).rows


def test_statements_that_write_or_reach_out_are_refused(server: Server) -> None:
    for statement in (
        "INSERT INTO kinds VALUES (9, 'x')", "DELETE FROM items", "UPDATE items SET price = 0", "DROP TABLE items",
        "CREATE TABLE t (a int)", "ALTER TABLE items ADD COLUMN z INT", "TRUNCATE TABLE items",
    ):  # fmt: skip
        assert "read-only" in error(server, statement)
    for statement in ("ATTACH DATABASE '/tmp/x' AS y", "PRAGMA writable_schema = 1", "VACUUM INTO '/tmp/x'"):
        assert "syntax" in error(server, statement)
    assert "does not exist" in error(server, "SELECT load_extension('x')")
    assert "does not exist" in error(server, "SELECT readfile('/etc/passwd')")
    assert "doesn't exist" in error(server, "SELECT * FROM sqlite_master")
    # Even SQLite itself would not do it.
    import sqlite3

    for statement in (
        "ATTACH ':memory:' AS y",
        "PRAGMA table_info('shop.items')",
        'DROP TABLE "shop.items"',
        "SELECT load_extension('x')",
    ):
        with pytest.raises(sqlite3.DatabaseError):
            server.connection.execute(statement)
    assert len(rows(server, "SELECT * FROM items")) == 4


def test_statements_that_lock_wait_for_nothing(server: Server) -> None:
    for how in (
        "FOR UPDATE",
        "FOR SHARE OF items, kinds NOWAIT",
        "FOR UPDATE SKIP LOCKED",
        "LOCK IN SHARE MODE",
    ):
        assert rows(server, f"SELECT code FROM items JOIN kinds ON id = kind_id LIMIT 1 {how}")
    for statement in ("LOCK TABLES items WRITE", "FLUSH TABLES WITH READ LOCK"):
        assert "read-only" in error(server, statement)
    assert rows(server, "SELECT SLEEP(1000)") == [(0,)]


@pytest.mark.parametrize(
    "statement",
    [
        "WITH RECURSIVE n AS (SELECT 1 AS v UNION ALL SELECT v + 1 FROM n) SELECT COUNT(*) FROM n",
        "SELECT COUNT(*) FROM " + ", ".join(f"items a{i}" for i in range(20)),
    ],
)
def test_endless_statements_end_and_end_alike(server: Server, statement: str) -> None:
    first = error(server, statement)
    assert "interrupted" in first
    server._answers.clear()
    assert error(server, statement) == first
    assert rows(server, "SELECT 1") == [(1,)]


def _nested(form: str, times: int, inner: str) -> str:
    for _ in range(times):
        inner = form.format(inner)
    return inner


@pytest.mark.parametrize(
    "statement",
    [
        "WITH c0 AS (SELECT 1 AS x), "
        + ", ".join(f"c{i} AS (SELECT a.x FROM c{i - 1} a, c{i - 1} b)" for i in range(1, 40))
        + " SELECT COUNT(*) FROM c39",
        "SELECT (" + _nested("SELECT x FROM ({}) d", 40, "SELECT t.kind_id AS x") + ") FROM items t",
        _nested("SELECT MAX(kind_id) + ({} LIMIT 1) AS kind_id FROM items GROUP BY kind_id", 19, "SELECT 1"),
        "SELECT " + _nested("NULLIF({}, 2)", 30, "1"),
        "SELECT " + _nested("({} BETWEEN 1 AND 2)", 30, "1"),
        "SELECT " + _nested("(CASE {} WHEN 1 THEN 2 WHEN 3 THEN 4 END)", 15, "1"),
    ],
)
def test_short_statements_that_are_long_in_sqlite_end(server: Server, statement: str) -> None:
    """Each level is written out twice, or more often: they took hours, and all memory."""
    assert "interrupted" in error(server, statement)
    assert "interrupted" in error(server, f"EXPLAIN {statement}")
    assert rows(server, "SELECT 1") == [(1,)]


def test_many_joins_are_refused_at_once(server: Server) -> None:
    tables = ", ".join(f"items a{i}" for i in range(61))
    assert rows(server, f"SELECT COUNT(*) FROM {tables} WHERE 0") == [(0,)]
    many = "Too many tables; MySQL can only use 61 tables in a join"
    assert error(server, f"SELECT COUNT(*) FROM {tables}, kinds") == many
    assert error(server, "SELECT 1 FROM items" + "".join(f" JOIN items a{i}" for i in range(90))) == many


@pytest.mark.parametrize(
    ("statement", "refusal"),
    [
        ("SELECT REPEAT('a', 60) REGEXP '(a+)+b'", "Timeout exceeded in regular expression match."),
        ("SELECT REPEAT('a', 60) REGEXP '^(a|b|ab)*$b'", "Timeout exceeded"),
        ("SELECT REPEAT('a', 60) REGEXP '(a?){40}a{40}'", "Timeout exceeded"),
        ("SELECT REGEXP_SUBSTR(REPEAT('a', 50), '(a+)+b')", "Timeout exceeded"),
        ("SELECT REGEXP_INSTR(REPEAT('a', 50), '(a|aa)+b')", "Timeout exceeded"),
        ("SELECT REGEXP_REPLACE(REPEAT('a', 50), '(a|aa)+b', '')", "Timeout exceeded"),
        ("SELECT LENGTH(REGEXP_REPLACE(REPEAT('a', 1000000), 'a', REPEAT('b', 3000)))", "Timeout exceeded"),
        ("SELECT REPEAT('a', 1000000) LIKE CONCAT('%', REPEAT('a', 30000), 'b%')", "interrupted"),
        ("SELECT 'a' RLIKE REPEAT('[a-z]', 100000)", "Timeout exceeded"),
        ("SELECT 'a' RLIKE CONCAT(REPEAT('[a-z]', 2000), x) FROM n", "Timeout exceeded"),
        ("SELECT '\u00e9' LIKE CONCAT(REPEAT('_a', 5000), x) FROM n", "interrupted"),
        (
            "SELECT COUNT(*) FROM n a, n b, n c WHERE REPEAT('a', 500000 + a.x + b.x + c.x) = 'b'",
            "interrupted",
        ),
        (
            "SELECT COUNT(DISTINCT UPPER(CONCAT(REPEAT(a.column_name, 50000), b.column_name)))"
            " FROM information_schema.columns a, information_schema.columns b, information_schema.columns c",
            "interrupted",
        ),
    ],
)
def test_endless_functions_end_and_end_alike(server: Server, statement: str, refusal: str) -> None:
    numbers = "WITH RECURSIVE n AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM n WHERE x < 99) "
    assert refusal in error(server, (numbers if "FROM n" in statement else "") + statement)
    assert rows(server, "SELECT 1") == [(1,)]


def test_functions_of_long_texts(server: Server) -> None:
    """Each took the square of the length, in time or in memory."""
    long = "REPEAT('ab', 400000)"
    assert rows(server, f"SELECT TRIM(BOTH 'ab' FROM CONCAT({long}, 'b', {long}))") == [("b",)]
    assert rows(server, f"SELECT LENGTH(LPAD('a', 1000000, {long})), RPAD('xy', 5, 'ab')") == [
        (1_000_000, "xyaba")
    ]
    assert rows(server, f"SELECT CONV({long}, 16, 10), CONV('-1', 10, 16), CONV('00ff', 16, 10)") == [
        ("18446744073709551615", "F" * 16, "255")
    ]
    many = ", ".join(["REPEAT('b', 300000)"] * 90)
    assert rows(server, f"SELECT LENGTH(CONCAT({many})), CONCAT('a', 'b', 1, NULL)") == [(27_000_000, None)]


@pytest.mark.parametrize(
    "pattern",
    [
        "^[A-Z][a-z]+ [A-Z][a-z]+$",
        "(Brazil|Ireland)+",
        ".*a.*e.*i.*",
        "^(ab)*c?$",
        "[0-9]{3}-[0-9]{4}",
        "(?i)x|y|zz",
    ],
)
def test_ordinary_patterns_are_tried(pattern: str) -> None:
    assert effort(pattern, 100) < WORK / 2


def test_like_is_sqlites_like() -> None:
    """On ASCII without trailing blanks the two rules are one."""
    random = Random(0)
    sqlite = sqlite3.connect(":memory:")
    matches = 0
    for _ in range(5000):
        pattern = "".join(random.choices("aab%%_!", k=random.randint(0, 7))).rstrip("!")
        text = "".join(random.choices("aab%", k=random.randint(0, 8)))
        (expected,) = sqlite.execute("SELECT ? LIKE ? ESCAPE '!'", (text, pattern)).fetchone()
        assert (like_pattern(pattern, "!").match(fold(text)) is not None) == bool(expected), (text, pattern)
        matches += expected
    assert 500 < matches < 4500
    # 15 places to be chosen out of 60, each of which the last one fails: every choice in turn took years.
    assert not like_pattern("%a" * 15 + "%b", "!").match("A" * 60)


def test_large_and_odd_statements(server: Server) -> None:
    assert "max_allowed_packet" in error(server, "SELECT '" + "x" * (1 << 20) + "'")
    assert rows(server, "SELECT LENGTH('" + "x" * 500_000 + "')") == [(500_000,)]
    assert "Thread stack overrun" in error(server, "SELECT " + "(" * 5000 + "1" + ")" * 5000)
    assert "Thread stack overrun" in error(server, "SELECT " + "NOT " * 5000 + "1")
    assert rows(server, "SELECT " + " OR ".join(["0"] * 3000)) == [(0,)]
    assert "syntax" in error(server, "SELECT \x00")
    assert rows(server, "SELECT '\U0001f40d'") == [("\U0001f40d",)]
    assert "exceeded" in error(server, "SELECT " + ", ".join(["REPEAT('x', 1000000)"] * 40))


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        # mysql-test/r/type_newdecimal.result: what has more than 81 digits is the largest decimal, 65 nines.
        ("9" * 5000, "[(Decimal('1" + "0" * 65 + "'),)]"),
        ("-" + "9" * 5000 + ".5", "[(Decimal('-1" + "0" * 65 + "'),)]"),
        ("1." + "5" * 5000, "[(Decimal('1." + "5" * 15 + "6" + "0" * 56 + "'),)]"),
        ("0" * 5000 + "7", "[(7,)]"),
        ("18446744073709551615 > 18446744073709551616", "[(0,)]"),
        ("0x" + "f" * 5000 + "0" * 15 + "1", "[(1,)]"),
        ("'2020-01-01' + INTERVAL " + "9" * 5000 + " DAY", "[(None,)]"),
        ("1 ORDER BY " + "9" * 5000, "[(1,)]"),
        ("1 LIMIT 18446744073709551615", "[(1,)]"),
        ("1 LIMIT 18446744073709551616", "Error executing query: You have an error in your SQL syntax"),
        ("1 LIMIT " + "9" * 5000, "Error executing query: You have an error in your SQL syntax"),
        ("NOW(" + "9" * 5000 + ") > 0", "[(1,)]"),
        ("CAST(1.5 AS DECIMAL(65,30)) = 1.5", "[(1,)]"),
        (
            "CAST(1 + 1 AS DECIMAL(66,6))",
            "Error executing query: Too-big precision 66 specified for '1 + 1'. Maximum is 65.",
        ),
        (
            "CAST(1 AS DECIMAL(65,400))",
            "Error executing query: Too big scale 400 specified for column '1'. Maximum is 30.",
        ),
        ("1e309", "Error executing query: Illegal double '1e309' value found during parsing"),
        ("1e-" + "9" * 5000, "[(0.0,)]"),
    ],
)
def test_numbers_of_any_length(server: Server, number: str, expected: str) -> None:
    assert server.run(f"SELECT {number}", "shop").text.startswith(expected)


@pytest.mark.parametrize("pieces", [1, 99, 100, 101, 400, 2000])
def test_like_with_any_number_of_pieces(server: Server, pieces: int) -> None:
    pattern = "%\u00e9" * pieces + "%"
    assert rows(server, f"SELECT '{'e' * pieces}' LIKE '{pattern}'") == [(1,)]
    assert rows(server, f"SELECT '{'e' * (pieces - 1)}' LIKE '{pattern}'") == [(0,)]
    assert rows(server, f"SHOW TABLES LIKE '{pattern}'") == ([("items",)] if pieces == 1 else [])


def test_what_a_statement_says_never_raises(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A net below the refusals that statements have of their own."""
    assert error(server, "SELECT '\ud800'") == "Unknown error"
    for fault in (ZeroDivisionError(), OverflowError("x"), ValueError("x"), TypeError("x"), re.error("x")):
        monkeypatch.setattr(engine, "compile_query", Mock(side_effect=fault))
        server._answers.clear()
        assert error(server, "SELECT 1") == "Unknown error"
    server._answers.clear()


def test_a_dump_that_is_not_one() -> None:
    with pytest.raises(CorruptData, match="not a mysqldump"):
        read_dump("hello")
    with pytest.raises(CorruptData, match="d.sql:2"):
        read_dump("USE `a`;\nCREATE TABLE nonsense;", "d.sql")
    with pytest.raises(CorruptData, match="3 values for 2 columns"):
        read_dump(
            "USE `a`;\nCREATE TABLE `t` (\n  `x` int,\n  `y` int\n) E;\nINSERT INTO `t` VALUES (1,2,3);"
        )


def test_collation_keys() -> None:
    assert fold("\u00c4pfel  ") == fold("apfel") and fold("a") != fold("b")
    assert fold("\u00df") == fold("s")


def test_filesort_is_stable_where_mysql_is() -> None:
    keys = [2, 1, 2, 1, 1, 2, 2, 1]
    assert filesort(keys, None) == [1, 3, 4, 7, 0, 2, 5, 6]
    assert filesort(keys, 3, counted=False) == [1, 3, 4]
    # What MySQL 8.0 gives of a table: a queue below a third of its rows, else std::nth_element.
    assert filesort(keys, 2) == [7, 1] and filesort(keys, 3) == [4, 7, 3]
    assert filesort([i % 3 for i in range(24)], 7) == [0, 12, 3, 18, 9, 6, 15]
    assert filesort([i % 3 for i in range(24)], 8) == [6, 12, 15, 9, 18, 3, 0, 21]
    big = [i % 7 for i in range(300)]
    assert filesort(big, None) == sorted(range(300), key=big.__getitem__)
    # Between 17 and 100 rows quicksort is at work: sorted, each row once, ties as they fall.
    middle = [i % 5 for i in range(60)]
    order = filesort(middle, None)
    assert [middle[i] for i in order] == sorted(middle) and sorted(order) == list(range(60))
    assert order != sorted(range(60), key=middle.__getitem__)
    # A bounded queue keeps the right keys.
    assert [big[i] for i in filesort(big, 5)] == [0] * 5
    # LIMIT 1 is the first of the least, whatever their number.
    assert [filesort([1] * n, 1, counted=False) for n in (15, 36, 100, 190)] == [[0]] * 4
    # A C++ program's output: std::nth_element to the tenth of 23, then std::sort of ten, by the number modulo 3.
    assert filesort([i % 3 for i in range(23)], 10, counted=False) == [6, 12, 15, 9, 18, 3, 0, 21, 13, 22]


def test_tied_groups_come_by_the_index_or_last_row_first_without_statistics() -> None:
    """As the published episodes show for `paragraphs` and `documents`, whose tables had no statistics."""
    tied = "SELECT kind_id FROM items GROUP BY kind_id ORDER BY COUNT(*){} LIMIT 1"
    for way in ("", " DESC"):
        assert Server(read_dump(DUMP)).run(tied.format(way), "shop").rows == [(1,)]
        young = Server(read_dump(DUMP), uncounted=frozenset({"shop"}))
        assert young.run(tied.format(way), "shop").rows == [(3,)]


def test_a_server_is_freed_with_its_last_reference() -> None:
    """SQLite's callbacks must not hold it: each episode that writes, and each generated task, has one of its own."""
    server = Server(read_dump(DUMP))
    copy = server.writable()
    assert copy.run("CREATE TABLE mine (a int)", "shop").error is None
    assert server.run("SELECT @@version, RAND() < 1", "shop").rows == [("8.0.33", 1)]
    gone = [weakref.ref(server), weakref.ref(copy)]
    del server, copy
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


THREADS = """
import sys, threading
from prosegym.envs.sql.engine import Server
from prosegym.envs.sql.schema import read_dump

sys.setswitchinterval(1e-5)
server = Server(read_dump(sys.stdin.read()))
wrong = []

def ask(statement, right):
    for n in range(400):
        answer = server.run(statement.format(n=n), "shop")
        if answer.rows != right:
            wrong.append(answer)
        copied = server.writable() if n % 20 == 0 else None

asked = [
    ("SELECT (SELECT Title FROM kinds WHERE id = 1 AND {n} = {n})", [("Toy",)]),
    ("SELECT COUNT(*) FROM items a, items b, items c WHERE UPPER(a.code) > ' {n}'", [(64,)]),
    ("SELECT COUNT(*) > {n} - {n} FROM information_schema.tables WHERE table_name LIKE 'it%'", [(1,)]),
]
threads = [threading.Thread(target=ask, args=pair, daemon=True) for pair in asked]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not wrong, wrong[:3]
"""


def test_threads_can_share_a_server() -> None:
    """In a process of its own: a deadlock held Python's lock, so that nothing else ran either."""
    done = subprocess.run(
        [sys.executable, "-c", THREADS], input=DUMP.encode(), capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr.decode()[-1000:]


def test_long_answers_are_not_kept() -> None:
    server = Server(read_dump(DUMP))
    for statement in (
        "SELECT REPEAT('x', 65537)",
        "SELECT 1 /* " + "x" * 65537 + " */",
        "SELECT " + "x" * 65537,
    ):
        assert server.run(statement, "shop") is not server.run(statement, "shop")
    for statement in ("SELECT REPEAT('x', 60000)", "SELECT x"):
        assert server.run(statement, "shop") is server.run(statement, "shop")


def test_a_statement_s_answer_does_not_depend_on_those_before(server: Server) -> None:
    fresh = Server(read_dump(DUMP)).run("SELECT RAND(), RAND()", "shop").rows
    server.run("SELECT RAND() FROM items", "shop")
    assert server.run("SELECT RAND(), RAND()", "shop").rows == fresh
