//! String, header, path, CIDR, port and query matching; compiled once; pure.
