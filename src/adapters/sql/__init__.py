"""The storage port on SQLAlchemy Core: PostgreSQL by asyncpg, SQLite by aiosqlite, one set of statements for both."""
