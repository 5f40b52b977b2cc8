"""Tables, claims, pages and figures of finished runs."""
