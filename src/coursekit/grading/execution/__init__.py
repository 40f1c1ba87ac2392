"""Run one notebook: the student's cells in a confined process, the tests in another, data between them."""
