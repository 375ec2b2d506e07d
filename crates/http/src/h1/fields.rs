//! Rules for header fields that requests and responses share.
