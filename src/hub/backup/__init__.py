"""Backups: the log and what stands beside it in one folder, its keys in another, from a hub that goes on running.

    hub -> pages of the log -> one short snapshot at position d -> manifest with the Merkle root -> folder
    folder -> manifest and hashes -> tables that are empty -> erasures again -> views rebuilt -> audit -> hub

One format for every database, so that a backup of SQLite is restored into PostgreSQL and back. A backup of the log
cannot be read without the keys, and neither without the master key, which is in no backup. Why so:
docs/decisions/0018-backups.md.
"""

from hub.backup.databases import Databases
from hub.backup.restoring import Restored, check, restore
from hub.backup.taking import Taken, take_keys, take_log

__all__ = ["Databases", "Restored", "Taken", "check", "restore", "take_keys", "take_log"]
