"""Every decoder, given what nobody should send: it returns a value that holds its promises, or its own error."""
