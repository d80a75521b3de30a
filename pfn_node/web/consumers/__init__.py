"""What consumers' own clients ask a node, in their own words."""
