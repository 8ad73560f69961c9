"""From run folders to the leaderboard: its records, their check, and the site that shows them."""
