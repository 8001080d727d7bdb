"""Published files, one module per dataset, each read and checked without running code that they may contain."""
