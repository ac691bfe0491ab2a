"""What a search is about, without anything that runs: goals, spaces and candidates."""
