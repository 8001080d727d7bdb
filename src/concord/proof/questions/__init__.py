"""The questions of the proof, a file each; every one makes a table of the outcomes of all cells."""
