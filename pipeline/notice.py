"""The sentence that every output of a prediction carries."""

NOTICE = "Research use only, not a medical device."
