"""The routes that manage users and roles, and read the audit log."""
