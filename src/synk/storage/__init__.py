"""The port to the database (`synk.storage.base`) and the adapter for PostgreSQL."""
