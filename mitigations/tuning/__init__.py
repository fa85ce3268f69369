"""Try remedies on the user's script in short trials, and keep those that prove themselves."""
