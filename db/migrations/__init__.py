"""Alembic migrations: one revision a file under versions."""
