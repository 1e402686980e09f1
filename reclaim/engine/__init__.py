"""The only hand that changes anything: it judges, journals, applies, judges again, and undoes."""
