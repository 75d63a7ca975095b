"""What firmware tells an operating system about the board: ACPI, MP, PIR and SMBIOS tables."""
