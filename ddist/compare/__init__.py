"""Many runs side by side, and beside what papers publish: what ``task=compare`` is made of."""
