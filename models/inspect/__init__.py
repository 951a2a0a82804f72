"""Networks read, never changed: what they consist of and what they see."""
