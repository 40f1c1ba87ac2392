from coursekit.grading import configure

configure(get_config())  # noqa: F821
