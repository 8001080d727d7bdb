"""Raw recordings: sound and pictures out of the files that people have, by the recipes of published pipelines."""
