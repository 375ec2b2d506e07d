//! Compiled route tables: virtual host, match, rewrite, weighted choice, redirect.
