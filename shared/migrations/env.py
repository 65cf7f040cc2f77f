"""Alembic's entry: runs the migrations on the connection that `shared.migrations.migrate` hands over."""

from alembic import context

from shared.tables import METADATA

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=METADATA, render_as_batch=True, transactional_ddl=False)
context.run_migrations()
