"""What arrived: find it, read it in whatever state it is, and bring it back to the form of the release."""
