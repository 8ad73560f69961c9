"""Run the versions in the transaction that `hebench.human.database` opened."""

from alembic import context

from hebench.human.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters a table by making it anew
)
context.run_migrations()
