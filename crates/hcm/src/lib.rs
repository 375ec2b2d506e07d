//! HTTP connection manager: the stream driver, the terminal router, retries and timeouts.
