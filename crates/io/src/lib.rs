//! Sockets, original destination, buffers and watermarks, splice, log files.
