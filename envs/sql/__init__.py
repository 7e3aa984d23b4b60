"""SQL environments: InterCode's tasks on a MySQL that is SQLite in memory, and generated ones."""
