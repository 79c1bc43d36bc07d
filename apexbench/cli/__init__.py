"""The command line: parses, prints and exits; everything else lives below it."""
