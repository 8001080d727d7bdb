"""Raw recordings: sound and pictures from media files, by the recipes of published pipelines."""
