"""SQL environments: InterCode's tasks on a MySQL that is SQLite in memory, and generated ones.

How a statement goes from its text to its answer, where each module imports only from those above it:

* `schema` holds the tables, `tree` has the nodes of a statement, and `parser` makes such a tree of its text;
* `typed` has what the compiler makes of a node: SQL, with the type that it has in MySQL;
* `functions` are those that SQLite gets from Python, and `sorting` is how MySQL's sort leaves ties;
* `compiler` makes the tree one SQLite statement. It is one class in layers, one to a module: `names` finds
  columns, `conversions` compares and reckons, `expressions` compiles what gives a value (with `calls`, how
  each function is written), `aggregates` what is computed of many rows, `grouping` reads GROUP BY, `tables`
  FROM, and `compiler` the whole; `planner` says in which order rows come when nothing asks for one;
* `dictionary` is what SHOW and INFORMATION_SCHEMA read, and `writes` does what changes tables;
* `engine` runs the SQL and gives the rows as the server does.
"""
