"""The archive's tables, views, engines and migrations."""
