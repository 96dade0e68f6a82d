"""Layouts of rows: telling them apart, and bringing them to one."""
