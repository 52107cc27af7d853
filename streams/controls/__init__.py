"""What people put on the tape: policies, commands, calendars, families."""
