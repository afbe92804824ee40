"""The one exception that means "the user can mend this"."""


class DdistError(Exception):
    """A mistake the user can mend: its text is one clear sentence that says what was expected,
    what came and what to do. The command line prints the sentence and exits with status 1."""
