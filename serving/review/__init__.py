"""What people decide: tags put up for review, an audit of accepted ones, and the switch between the two."""
