"""The subcommands of `graphkd`, one a file; see `graphkd --help`."""
