"""What travels: events, state records, money, the topic table and their codecs."""
