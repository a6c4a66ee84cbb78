//! Durable facts of a Tally node: journal, snapshot and the permanent log on redb.
