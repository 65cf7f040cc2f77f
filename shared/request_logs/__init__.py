"""request_logs."""
