"""Results for readers: tables, figures, sentences, and one HTML page of all of them."""
