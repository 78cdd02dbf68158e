"""The subcommands of `densekd`, one a file; see `densekd --help`."""
