"""What people look at: log lines (`console`), pictures (`grid`), the results table (`table`) and
the artifact's card."""
