"""What the gradebook holds: scores, outcomes, late days, exports."""
