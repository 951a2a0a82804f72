"""The page that a run leaves behind: `page` is the frame; every task has a section of its own."""
