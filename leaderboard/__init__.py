"""Submissions that cannot lie about their score: make them, verify them, show them."""
