"""IDE: the channels of an ATA host adapter, their drives, and the PIIX4 function that masters the bus for them."""
