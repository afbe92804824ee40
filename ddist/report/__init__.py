"""What people look at: pictures (`grid`), the results table (`table`) and the artifact's card."""
