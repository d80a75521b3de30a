"""What consumers may ask of a node, written out as files for an object store or a CDN that nobody has to trust."""
