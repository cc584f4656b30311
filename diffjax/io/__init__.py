"""Files of arrays in the formats that people publish; nothing that is read is executed."""
