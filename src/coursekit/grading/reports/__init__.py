"""What people read: the feedback of a student, the summary of a class, similar hand-ins."""
