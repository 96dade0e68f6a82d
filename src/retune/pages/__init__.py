"""What pages share: their template and colours, numbers as text, pictures."""
