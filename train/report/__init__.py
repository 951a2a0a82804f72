"""The page that a run leaves behind: `page` is the frame; every task has a part of its own."""
