//! HTTP/1 codec behind version-neutral stream events.
