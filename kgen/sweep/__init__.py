"""The loop that makes the tables: plan, prune, build, verify, measure, promote, report."""
