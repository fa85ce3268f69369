"""What goes wrong for a user, said in one sentence with the remedy."""


class SpeedprofError(Exception):
    """Shown to the user as it is, without a traceback; commands turn it into exit status 2."""
