"""The subcommands of `mmret` that are written here; the others live with what they run."""
