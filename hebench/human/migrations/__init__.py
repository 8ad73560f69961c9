"""Schema versions, applied by Alembic whenever a database is opened."""
