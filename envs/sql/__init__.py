"""SQL environments: InterCode's tasks on a MySQL that is SQLite in memory, and generated ones.

How a statement goes from its text to its answer, each module importing only from those before it:

* `schema` holds the tables, `tree` the nodes of a statement, and `parser` reads its text into such a tree;
* `typed` is what the compiler makes of a node: SQL with MySQL's type of it;
* `compiler` makes the tree one SQLite statement. It is one class in layers, one to a module: `names` finds
  columns, `conversions` compares and reckons, `expressions` compiles what gives a value (with `calls`, how each
  function is written), `aggregates` what is computed of many rows, `grouping` GROUP BY, `tables` FROM,
  and `compiler` SELECT and UNION. `planner` says in which order rows come when nothing asks for one;
* `functions` are those that SQLite gets from Python, and `sorting` is how MySQL's sort leaves ties;
* `engine` runs the SQL and gives the rows as the server does; `writes` does what changes tables, and
  `dictionary` is what SHOW and INFORMATION_SCHEMA read.
"""
