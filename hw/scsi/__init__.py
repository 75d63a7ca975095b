"""SCSI command sets: targets that execute CDBs, whatever carries them."""
